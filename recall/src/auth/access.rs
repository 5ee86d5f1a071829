//! What a request may see.

use std::sync::Arc;

use loci_index::Filter;

/// What a request may see, by the token that came with it. Whoever looks passages up takes one: there is no question
/// without, and so no way to passages around it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Access {
    name: Option<Arc<str>>,
    filter: Option<Arc<Filter>>,
}

impl Access {
    /// Everything.
    pub(crate) fn everything() -> Self {
        Self {
            name: None,
            filter: None,
        }
    }

    /// Nothing: what needs no token gives no passages.
    pub(crate) fn nothing() -> Self {
        Self {
            name: None,
            filter: Some(Arc::new(Filter::Or(Vec::new()))),
        }
    }

    /// What passes `filter`; without one everything.
    pub(super) fn named(name: &str, filter: Option<Filter>) -> Self {
        Self {
            name: Some(name.into()),
            filter: filter.map(Arc::new),
        }
    }

    /// The token's name, for logs.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The filter that every request has beside its own.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    /// What a request that asks for `asked` gets: what passes both.
    pub(crate) fn narrow(&self, asked: Option<Filter>) -> Option<Filter> {
        match (self.filter(), asked) {
            (None, asked) => asked,
            (Some(own), None) => Some(own.clone()),
            (Some(own), Some(asked)) => Some(Filter::And(vec![own.clone(), asked])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_stands_below_the_tokens_filter() {
        let own = Filter::Equals("tenant".into(), "acme".into());
        let asked = Filter::Or(vec![
            Filter::Not(Box::new(own.clone())),
            Filter::And(Vec::new()),
        ]);
        let acme = Access::named("acme", Some(own.clone()));
        assert_eq!(acme.narrow(None), Some(own.clone()));
        assert_eq!(
            acme.narrow(Some(asked.clone())),
            Some(Filter::And(vec![own, asked.clone()]))
        );
        let all = Access::everything();
        assert_eq!(
            (all.narrow(None), all.narrow(Some(asked.clone()))),
            (None, Some(asked))
        );
        assert_eq!(Access::nothing().narrow(None), Some(Filter::Or(Vec::new())));
    }
}
