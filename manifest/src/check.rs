//! A document against an OpenAPI schema, as an API server validates with strict fields.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::loaded::Origin;
use crate::nearest::{nearest, suggestion};
use crate::node::{Content, Entry, Node, join};
use crate::pattern::Matcher;
use crate::problem::Problem;

/// Collects all that is wrong with a document.
pub(crate) struct Check<'a> {
    pub origin: &'a Origin,
    pub matcher: &'a Matcher,
    /// Whether what is written may stand in a message. A Secret's may not.
    pub quoting: bool,
    pub problems: Vec<Problem>,
}

impl Check<'_> {
    /// Everything that is wrong with `node`, below it too.
    pub fn node(&mut self, path: &str, node: &Node, schema: &Value) {
        match (schema["type"].as_str(), &node.content) {
            (Some("object"), Content::Map(entries)) => self.object(path, node, entries, schema),
            (Some("array"), Content::List(items)) => self.array(path, items, schema),
            (Some("string"), Content::Text(text)) => self.string(path, text, schema),
            (Some("integer"), Content::Integer(number)) => self.integer(path, *number, schema),
            (Some("boolean"), Content::Bool(_)) | (None, _) => {}
            (Some(wanted), _) => self.wrong_type(path, node, wanted, schema),
        }
    }

    /// Fields that are written twice, anywhere in the document.
    pub fn duplicates(&mut self, document: &Node) {
        let mut found = Vec::new();
        document.visit("", &mut |path, node| {
            let mut seen = HashMap::new();
            for entry in node.entries() {
                if let Some(first) = seen.insert(&entry.key, entry.key_at) {
                    found.push((join(path, &entry.key), first.line, entry.key_at));
                }
            }
        });
        for (path, line, at) in found {
            let way_out = format!("it stands in line {line} already: keep one of them");
            let mut problem = self.origin.problem(&path, "written twice", Some(way_out));
            problem.position = Some(at);
            self.problems.push(problem);
        }
    }

    fn object(&mut self, path: &str, node: &Node, entries: &[Entry], schema: &Value) {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let mut meant = Vec::new();
        for entry in entries {
            let values = &schema["additionalProperties"];
            let known = properties.get(&entry.key);
            match (
                known.or(values.is_object().then_some(values)),
                &entry.node.content,
            ) {
                (Some(_), Content::Null) => {}
                (Some(known), _) => self.node(&join(path, &entry.key), &entry.node, known),
                (None, _) if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                (None, _) => meant.extend(self.unknown(path, entry, properties)),
            }
        }
        // A field that an unknown one was meant for is missing for that reason.
        let missing = |name: &&str| node.get(name).is_none() && !meant.contains(name);
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str).filter(missing) {
            let description = &properties.get(name).unwrap_or(&Value::Null)["description"];
            let way_out = format!(
                "add it: {}",
                description.as_str().unwrap_or("every object has one")
            );
            self.report(&join(path, name), "required, but missing", way_out);
        }
    }

    /// Reports an unknown field, and gives the one that was likely meant.
    fn unknown<'a>(
        &mut self,
        path: &str,
        entry: &Entry,
        properties: &'a Map<String, Value>,
    ) -> Option<&'a str> {
        let names = properties.keys().map(String::as_str);
        let way_out = suggestion(&entry.key, names.clone(), "the fields here are");
        let path = join(path, &entry.key);
        let mut problem = self.origin.problem(&path, "unknown field", Some(way_out));
        problem.position = Some(entry.key_at);
        self.problems.push(problem);
        nearest(&entry.key, names)
    }

    fn array(&mut self, path: &str, items: &[Node], schema: &Value) {
        for (i, item) in items.iter().enumerate() {
            self.node(&format!("{path}[{i}]"), item, &schema["items"]);
        }
        let count = items.len() as u64;
        if schema["minItems"]
            .as_u64()
            .is_some_and(|least| count < least)
        {
            self.report(
                path,
                "empty",
                format!("give at least {}", schema["minItems"]),
            );
        }
        if schema["maxItems"].as_u64().is_some_and(|most| count > most) {
            self.report(
                path,
                format!("{count} items"),
                format!("at most {} are allowed", schema["maxItems"]),
            );
        }
        if schema["x-kubernetes-list-type"] == "map" {
            self.unique(path, items, &schema["x-kubernetes-list-map-keys"]);
        }
    }

    /// Items of a list of type map are told apart by their keys.
    fn unique(&mut self, path: &str, items: &[Node], keys: &Value) {
        let keys: Vec<_> = keys
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut seen = HashMap::new();
        for (i, item) in items.iter().enumerate() {
            let id: Option<Vec<_>> = keys.iter().map(|key| item.get(key)?.text()).collect();
            if let Some(first) = id.and_then(|id| seen.insert(id, i)) {
                let field = keys
                    .first()
                    .map_or_else(String::new, |key| format!(".{key}"));
                let reason = format!("the same {} as in {path}[{first}]", keys.join(" and "));
                self.report(
                    &format!("{path}[{i}]{field}"),
                    reason,
                    "each may stand once".to_owned(),
                );
            }
        }
    }

    fn string(&mut self, path: &str, text: &str, schema: &Value) {
        let length = text.chars().count() as u64;
        let allowed: Vec<_> = schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if schema["minLength"]
            .as_u64()
            .is_some_and(|least| length < least)
        {
            let least = &schema["minLength"];
            self.report(
                path,
                if length == 0 { "empty" } else { "too short" },
                format!("write at least {least} characters{}", example(schema)),
            );
        } else if schema["maxLength"]
            .as_u64()
            .is_some_and(|most| length > most)
        {
            self.report(
                path,
                format!("{length} characters long"),
                format!("at most {} are allowed", schema["maxLength"]),
            );
        } else if !allowed.is_empty() && !allowed.contains(&text) {
            let meant = nearest(text, allowed.iter().copied())
                .map_or_else(String::new, |meant| format!("did you mean \"{meant}\"? "));
            let reason = format!("{} is not allowed", self.quoted(text));
            self.report(
                path,
                reason,
                format!("{meant}allowed are {}", allowed.join(", ")),
            );
        } else if let Some(pattern) = schema["pattern"].as_str()
            && !self.matcher.matches(text, pattern)
        {
            let reason = format!("{} is not written as it must be", self.quoted(text));
            self.report(
                path,
                reason,
                format!("it must match {pattern}{}", example(schema)),
            );
        }
    }

    fn integer(&mut self, path: &str, number: i128, schema: &Value) {
        let kind = if schema["format"] == "int32" {
            i128::from(i32::MIN)..=i128::from(i32::MAX)
        } else {
            i128::from(i64::MIN)..=i128::from(i64::MAX)
        };
        let bound = |key: &str| schema[key].as_f64().map(|f| f as i128);
        let least = bound("minimum").unwrap_or(*kind.start());
        let most = bound("maximum").unwrap_or(*kind.end());
        if !(least..=most).contains(&number) {
            let way_out = match (bound("minimum"), bound("maximum")) {
                (Some(least), None) => format!("at least {least} is allowed"),
                _ => format!("{least} to {most} is allowed"),
            };
            self.report(path, format!("{number} is out of range"), way_out);
        }
    }

    fn wrong_type(&mut self, path: &str, node: &Node, wanted: &str, schema: &Value) {
        let expected = match wanted {
            "object" => "a mapping",
            "array" => "a list",
            "string" => "text",
            "integer" => "a whole number",
            _ => "true or false",
        };
        let scalar = !matches!(
            node.content,
            Content::List(_) | Content::Map(_) | Content::Null
        );
        let way_out = match wanted {
            "string" if matches!(node.content, Content::Bool(_)) => {
                "put it in quotes: YAML reads yes, no, on, off, y and n as true and false"
                    .to_owned()
            }
            "string" if scalar => format!("put it in quotes{}", example(schema)),
            "array" => "begin each item with \"- \"".to_owned(),
            "object" => {
                let names: Vec<_> = schema["properties"]
                    .as_object()
                    .into_iter()
                    .flat_map(|p| p.keys())
                    .map(String::as_str)
                    .collect();
                if names.is_empty() {
                    "write fields below it".to_owned()
                } else {
                    format!("its fields are {}", names.join(", "))
                }
            }
            "integer" | "boolean" if scalar => {
                "write it without quotes, fraction or unit".to_owned()
            }
            _ => format!("write {expected}"),
        };
        self.report(
            path,
            format!("expected {expected}, got {}", node.what()),
            way_out,
        );
    }

    fn report(&mut self, path: &str, reason: impl Into<String>, way_out: String) {
        self.problems
            .push(self.origin.problem(path, reason, Some(way_out)));
    }

    fn quoted(&self, text: &str) -> String {
        const LONGEST: usize = 80;
        match text.char_indices().nth(LONGEST) {
            _ if !self.quoting => "the value".to_owned(),
            Some((end, _)) => format!("{:?}...", &text[..end]),
            None => format!("{text:?}"),
        }
    }
}

fn example(schema: &Value) -> String {
    match &schema["example"] {
        Value::Null => String::new(),
        example => format!(", for example {example}"),
    }
}
