//! From text to objects.

use std::path::Path;

use kube::core::cel::{ErrorKind, Validator};
use loci_crds::MemoryPipeline;
use serde_json::Value;

use crate::check::Check;
use crate::document::{self, Malformed};
use crate::loaded::{Loaded, Origin};
use crate::nearest::{nearest, suggestion};
use crate::node::{Content, Node};
use crate::object;
use crate::pattern::Matcher;
use crate::problem::{Note, Problem};
use crate::schemas::SCHEMAS;
use crate::{GROUP_VERSION, Manifests};

const READ: [&str; 3] = ["MemoryPipeline", "ConfigMap", "Secret"];

/// Reads files one after the other.
pub(crate) struct Reader {
    matcher: Matcher,
    rules: Validator,
    manifests: Manifests,
    problems: Vec<Problem>,
}

impl Reader {
    pub fn new() -> Self {
        Self {
            matcher: Matcher::new(),
            rules: Validator::new(),
            manifests: Manifests::default(),
            problems: Vec::new(),
        }
    }

    /// Takes what is wrong with a file or one document, in the order of the text.
    pub fn refuse(&mut self, mut problems: Vec<Problem>) {
        problems.sort_by_key(|p| p.position);
        self.problems.extend(problems);
    }

    /// Reads all documents of a file.
    pub fn read(&mut self, file: &Path, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let documents = document::read(text);
        if documents.is_empty() {
            self.manifests.notes.push(Note {
                file: file.to_owned(),
                position: None,
                text: "holds no document".to_owned(),
            });
        }
        for document in documents {
            match document {
                Ok(node) => self.document(&node, &Origin::new(file, &node)),
                Err(Malformed { at, reason }) => self.problems.push(Problem {
                    file: file.to_owned(),
                    position: at,
                    field: None,
                    reason,
                    way_out: None,
                }),
            }
        }
    }

    /// All that was read, or all that is wrong with it.
    pub fn finish(mut self) -> Result<Manifests, Vec<Problem>> {
        self.problems.extend(self.manifests.twice());
        if self.problems.is_empty() {
            Ok(self.manifests)
        } else {
            Err(self.problems)
        }
    }

    fn document(&mut self, node: &Node, origin: &Origin) {
        if !matches!(node.content, Content::Map(_)) {
            let reason = format!("expected a Kubernetes object, got {}", node.what());
            let way_out = "begin with apiVersion and kind".to_owned();
            return self
                .problems
                .push(origin.problem("", reason, Some(way_out)));
        }
        let field = |key| node.get(key).and_then(Node::text).unwrap_or_default();
        match (field("apiVersion"), field("kind")) {
            (_, "") => self.wrong_kind(
                origin,
                "kind",
                "required, but missing",
                format!("add it: Loci reads {}", READ.join(", ")),
            ),
            (GROUP_VERSION, "MemoryPipeline") => self.pipeline(node, origin),
            ("v1", "ConfigMap") => self.config_map(node, origin),
            ("v1", "Secret") => self.secret(node, origin),
            (_, "MemoryPipeline") => self.wrong_kind(
                origin,
                "apiVersion",
                "not the version of MemoryPipeline",
                format!("write {GROUP_VERSION}"),
            ),
            (_, kind @ ("ConfigMap" | "Secret")) => {
                let reason = format!("not the version of {kind}");
                self.wrong_kind(origin, "apiVersion", &reason, "write v1".to_owned());
            }
            (version, kind) => self.other_kind(version, kind, origin),
        }
    }

    fn wrong_kind(&mut self, origin: &Origin, field: &str, reason: &str, way_out: String) {
        self.problems
            .push(origin.problem(field, reason, Some(way_out)));
    }

    fn other_kind(&mut self, version: &str, kind: &str, origin: &Origin) {
        let ours = version.split('/').next() == Some(loci_crds::GROUP);
        match kind {
            "MemoryRun" | "MemoryRelease" if ours => {
                let reason = format!("Loci makes every {kind} itself");
                let way_out = "declare the MemoryPipeline that it belongs to".to_owned();
                self.wrong_kind(origin, "kind", &reason, way_out);
            }
            _ if ours => {
                let reason = format!("unknown kind {kind}");
                let way_out = suggestion(kind, READ, "Loci reads");
                self.wrong_kind(origin, "kind", &reason, way_out);
            }
            // A slip in the name of a kind, unless another API has a kind of that name.
            _ if !version.contains('/') && nearest(kind, READ).is_some() => {
                let reason = format!("unknown kind {kind}");
                let way_out = suggestion(kind, READ, "Loci reads");
                self.wrong_kind(origin, "kind", &reason, way_out);
            }
            _ => self.manifests.notes.push(Note {
                file: origin.file.clone(),
                position: origin.problem("kind", "", None).position,
                text: format!("skipped {kind}: loci up reads only {}", READ.join(", ")),
            }),
        }
    }

    fn pipeline(&mut self, node: &Node, origin: &Origin) {
        let mut problems = self.check(node, origin, &SCHEMAS.pipeline, true);
        let json = node.to_json();
        problems.extend(gates(node, origin));
        self.rules(&json, origin, &mut problems);
        if !problems.is_empty() {
            return self.refuse(problems);
        }
        match serde_json::from_value::<MemoryPipeline>(json) {
            Ok(mut pipeline) => {
                let (namespace, _) = object::identity(node);
                pipeline.metadata.namespace = Some(namespace);
                if pipeline.status.take().is_some() {
                    self.manifests.notes.push(Note {
                        file: origin.file.clone(),
                        position: origin.problem("status", "", None).position,
                        text: "status is not read: Loci writes it".to_owned(),
                    });
                }
                self.manifests.pipelines.push(loaded(pipeline, origin));
            }
            Err(e) => {
                self.problems
                    .push(origin.problem("", format!("not a MemoryPipeline: {e}"), None))
            }
        }
    }

    fn config_map(&mut self, node: &Node, origin: &Origin) {
        let problems = self.check(node, origin, &SCHEMAS.config_map, true);
        let read = object::config_map(node, origin);
        if let Some(object) = self.take(problems, read) {
            self.manifests.config_maps.push(loaded(object, origin));
        }
    }

    fn secret(&mut self, node: &Node, origin: &Origin) {
        let problems = self.check(node, origin, &SCHEMAS.secret, false);
        let read = object::secret(node, origin);
        if let Some(object) = self.take(problems, read) {
            self.manifests.secrets.push(loaded(object, origin));
        }
    }

    /// The object, when neither the schema nor the reading found a problem.
    fn take<T>(&mut self, mut problems: Vec<Problem>, read: Result<T, Vec<Problem>>) -> Option<T> {
        match read {
            Ok(object) if problems.is_empty() => return Some(object),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        self.refuse(problems);
        None
    }

    fn check(&self, node: &Node, origin: &Origin, schema: &Value, quoting: bool) -> Vec<Problem> {
        let mut check = Check {
            origin,
            matcher: &self.matcher,
            quoting,
            problems: Vec::new(),
        };
        check.duplicates(node);
        check.node("", node, schema);
        check.problems
    }

    /// The CEL rules. What a rule says of a field that has a problem already follows from that problem, and is left out.
    fn rules(&self, json: &Value, origin: &Origin, problems: &mut Vec<Problem>) {
        let result = self
            .rules
            .validate_compiled(&SCHEMAS.pipeline_rules, json, None);
        let known: Vec<_> = problems.iter().filter_map(|p| p.field.clone()).collect();
        for error in result.err().into_iter().flatten() {
            let field = if error.field_path.is_empty() {
                "metadata.name"
            } else {
                &error.field_path
            };
            let follows = error.kind != ErrorKind::ValidationFailure
                || known.iter().any(|k| k.starts_with(field));
            if known.is_empty() || !follows {
                problems.push(origin.problem(field, error.message, None));
            }
        }
    }
}

/// Gates of suites that are not declared. A rule says that there is such a gate, but not which.
fn gates(pipeline: &Node, origin: &Origin) -> Vec<Problem> {
    let items = |field| match pipeline.get("spec").and_then(|spec| spec.get(field)) {
        Some(Node {
            content: Content::List(items),
            ..
        }) => &items[..],
        _ => &[],
    };
    let suites: Vec<_> = items("suites")
        .iter()
        .filter_map(|s| s.get("name")?.text())
        .collect();
    let mut problems = Vec::new();
    for (i, gate) in items("gates").iter().enumerate() {
        if let Some(name) = gate.get("suite").and_then(Node::text)
            && !suites.contains(&name)
        {
            let reason = format!("no suite has the name {name:?}");
            let way_out = match &suites[..] {
                [] => "declare it in spec.suites".to_owned(),
                _ => suggestion(name, suites.iter().copied(), "the suites are"),
            };
            problems.push(origin.problem(&format!("spec.gates[{i}].suite"), reason, Some(way_out)));
        }
    }
    problems
}

fn loaded<T>(object: T, origin: &Origin) -> Loaded<T> {
    Loaded {
        object,
        origin: origin.clone(),
    }
}
