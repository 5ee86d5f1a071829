//! Arguments of the tool: the fields of `/v1/retrieve`, two of them by the names that tools have for them.

use serde_json::{Map, Value};

use super::NoAnswer;
use crate::api::{body, retrieve};

/// Arguments that have another name than the field.
const RENAMED: [(&str, &str); 2] = [("topK", "k"), ("filter", "filters")];

/// The argument by which a field is given.
pub(super) fn argument(field: &str) -> &str {
    let renamed = RENAMED.iter().find(|(_, of)| *of == field);
    renamed.map_or(field, |(argument, _)| argument)
}

/// The fields that arguments mean; an argument that there is not is refused.
pub(super) fn fields(arguments: Map<String, Value>) -> Result<Map<String, Value>, NoAnswer> {
    let known = retrieve::FIELDS.map(argument);
    let field = |(name, value): (String, Value)| {
        let place = known.iter().position(|known| *known == name);
        let place = place.ok_or_else(|| body::unknown(&name, &known))?;
        Ok((retrieve::FIELDS[place].to_owned(), value))
    };
    arguments.into_iter().map(field).collect()
}

/// The same of arguments, which was said of fields.
pub(super) fn of_arguments(error: NoAnswer) -> NoAnswer {
    let renamed = error.param.as_deref().and_then(|param| {
        let end = param.find(['.', '[']).unwrap_or(param.len());
        let (field, place) = param.split_at(end);
        Some(format!("{}{place}", argument(field))).filter(|renamed| renamed != param)
    });
    let (Some(param), Some(renamed)) = (&error.param, renamed) else {
        return error;
    };
    let message = match error.message.strip_prefix(param.as_str()) {
        Some(reason) => format!("{renamed}{reason}"),
        None => error.message,
    };
    NoAnswer {
        message,
        param: Some(renamed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn arguments_mean_fields() {
        assert_eq!(
            fields(map(
                json!({"query": "a", "topK": 2, "filter": {"k": 1}, "pipeline": "p", "explain": true})
            ))
            .unwrap(),
            map(json!({"query": "a", "k": 2, "filters": {"k": 1}, "pipeline": "p", "explain": true}))
        );
        let unknown = fields(map(json!({"query": "a", "filters": {}}))).unwrap_err();
        assert_eq!(
            unknown.message,
            "filters: no such field; did you mean filter?"
        );
        let unknown = fields(map(json!({"query": "a", "k": 1}))).unwrap_err();
        assert_eq!(
            unknown.message,
            "k: no such field; there are query, topK, filter, pipeline, explain"
        );
    }

    #[test]
    fn errors_name_arguments() {
        let renamed = |param: &str, message: &str| {
            let error = of_arguments(NoAnswer {
                message: message.to_owned(),
                param: Some(param.to_owned()),
            });
            (error.param.unwrap(), error.message)
        };
        let pair = |param: &str, message: &str| (param.to_owned(), message.to_owned());
        assert_eq!(renamed("k", "k: 0 is not"), pair("topK", "topK: 0 is not"));
        assert_eq!(
            renamed("filters.and[0].k", "filters.and[0].k: null"),
            pair("filter.and[0].k", "filter.and[0].k: null")
        );
        assert_eq!(
            renamed("query", "query: empty"),
            pair("query", "query: empty")
        );
        let open = NoAnswer {
            message: "k".to_owned(),
            param: None,
        };
        assert_eq!(of_arguments(open.clone()), open);
    }
}
