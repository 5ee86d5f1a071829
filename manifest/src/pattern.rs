//! Regular expressions of a schema.

use kube::core::cel::cel::{Context, Program, Value};

/// Matches text with the regular expressions of CEL, which are those of an API server.
pub(crate) struct Matcher {
    program: Option<Program>,
}

impl Matcher {
    pub fn new() -> Self {
        let program = Program::compile("text.matches(pattern)").ok();
        Self { program }
    }

    /// Whether `text` matches; false when the pattern is none.
    pub fn matches(&self, text: &str, pattern: &str) -> bool {
        let mut context = Context::default();
        context.add_variable_from_value("text", text.to_owned());
        context.add_variable_from_value("pattern", pattern.to_owned());
        let result = self.program.as_ref().map(|p| p.execute(&context));
        matches!(result, Some(Ok(Value::Bool(true))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_regular_expressions() {
        let matcher = Matcher::new();
        assert!(matcher.matches("1h30m", r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"));
        assert!(!matcher.matches("10 minutes", r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"));
        assert!(!matcher.matches("a", "("));
    }
}
