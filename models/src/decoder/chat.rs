//! Chats as the model was trained to read them, by its own template, with the settings that transformers uses.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use loci_digest::Digest;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::ModelError;

/// One turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A model's chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens that templates may name: `bos_token`, `eos_token` and so on.
    marks: BTreeMap<String, String>,
    digest: Digest,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The name under which errors count lines.
const NAME: &str = "chat template";

impl ChatTemplate {
    /// Compiles a template; errors name `path`, where it was found.
    pub fn new(
        source: String,
        marks: BTreeMap<String, String>,
        path: &Path,
    ) -> Result<Self, ModelError> {
        let digest = Digest::of(&source);
        if source.contains("strftime_now") {
            let supported = "templates whose prompt does not depend on the day";
            return Err(ModelError::unsupported(
                path,
                NAME,
                "with strftime_now",
                supported,
            ));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, source)
            .map_err(|e| ModelError::config(path, format!("{NAME}: {e}")))?;
        Ok(Self {
            environment,
            marks,
            digest,
        })
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The chat as one text; with `prompt`, up to where the assistant's next turn begins.
    pub fn render(&self, messages: &[Message], prompt: bool) -> Result<String, ModelError> {
        let failed = |e: Error| ModelError::Chat(e.detail().map_or(e.to_string(), str::to_owned));
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template
            .render(Context {
                messages,
                tools: None,
                documents: None,
                add_generation_prompt: prompt,
                marks: &self.marks,
            })
            .map_err(failed)
    }
}

/// What transformers passes to a template.
#[derive(Serialize)]
struct Context<'a> {
    messages: &'a [Message],
    tools: Option<()>,
    documents: Option<()>,
    add_generation_prompt: bool,
    #[serde(flatten)]
    marks: &'a BTreeMap<String, String>,
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as Python's `json.dumps` writes it, without the escapes for HTML of minijinja's own filter.
fn to_json(value: Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    options.assert_all_used()?;
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent);
            written(&value, PrettyFormatter::with_indent(spaces.as_bytes()))
        }
        None => written(&value, Spaced),
    }
}

fn written(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let mut json = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut json, formatter);
    let failed = |reason: String| Error::new(ErrorKind::BadSerialization, reason);
    value
        .serialize(&mut serializer)
        .map_err(|e| failed(e.to_string()))?;
    String::from_utf8(json).map_err(|e| failed(e.to_string()))
}

/// One line, with a space after commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn template(source: &str) -> Result<ChatTemplate, ModelError> {
        let marks = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let marks = marks.map(|(name, mark)| (name.to_owned(), mark.to_owned()));
        ChatTemplate::new(source.to_owned(), marks.into(), Path::new("m/x.json"))
    }

    fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
        turns
            .iter()
            .map(|(role, content)| Message {
                role: (*role).to_owned(),
                content: (*content).to_owned(),
            })
            .collect()
    }

    fn rendered(source: &str, turns: &[(&str, &str)], prompt: bool) -> String {
        template(source)
            .unwrap()
            .render(&chat(turns), prompt)
            .unwrap()
    }

    #[test]
    fn smollm2_puts_its_system_turn_first_unless_there_is_one() {
        assert_eq!(
            rendered(SMOLLM2, &[("user", "Hi <b>\"you\"</b>")], true),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi <b>\"you\"</b><|im_end|>\n<|im_start|>assistant\n"
        );
        let turns = [
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Yes."),
        ];
        assert_eq!(
            rendered(SMOLLM2, &turns, false),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
        );
    }

    #[test]
    fn blocks_take_their_lines_and_python_is_understood() {
        let source = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() | upper }}]\n    {% elif loop.last %}\n        {% break %}\n    {% endif %}\n{% endfor %}\n{%- if tools is none and documents is none %} no tools{% endif %}{{ eos_token }}\n";
        let turns = [("user", " a "), ("x", "b"), ("user", "c\n"), ("x", "d")];
        assert_eq!(
            rendered(source, &turns, false),
            "<s>\n[A]\n[C]\n no tools</s>"
        );
    }

    #[test]
    fn json_is_pythons() {
        let source = "{{ messages | tojson }}\n{{ messages[0] | tojson(indent=2) }}";
        assert_eq!(
            rendered(source, &[("user", "é <'\"&>\n")], false),
            "[{\"role\": \"user\", \"content\": \"é <'\\\"&>\\n\"}]\n{\n  \"role\": \"user\",\n  \"content\": \"é <'\\\"&>\\n\"\n}"
        );
    }

    #[test]
    fn templates_refuse_chats_and_are_refused() {
        let strict = "{% if messages[0].role != 'user' %}{{ raise_exception('Roles must alternate') }}{% endif %}";
        let refusal = template(strict).unwrap().render(&chat(&[("x", "")]), false);
        let message = refusal.unwrap_err().to_string();
        assert!(message.contains("Roles must alternate"), "{message}");
        for (source, parts) in [
            ("{% for %}", ["m/x.json", "chat template"]),
            (
                "{% generation %}x{% endgeneration %}",
                ["m/x.json", "generation"],
            ),
            ("{{ strftime_now('%Y') }}", ["strftime_now", "supported:"]),
        ] {
            let message = template(source).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "\"{part}\" is not in: {message}");
            }
        }
    }
}
