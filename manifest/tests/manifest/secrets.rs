//! Values of Secrets appear nowhere.

use loci_manifest::{Manifests, Problem, load_str};

use crate::{good, rendered};

const VALUE: &str = "hunter2";

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: git-auth}
stringData: {password: hunter2}
data: {token: aHVudGVyMg==}
";

fn everything(result: &Result<Manifests, Vec<Problem>>) -> String {
    let shown = match result {
        Ok(manifests) => format!("{:?}", manifests.notes),
        Err(problems) => rendered(problems).join("\n") + &serde_json::to_string(problems).unwrap(),
    };
    format!("{result:?}{shown}")
}

#[test]
fn debug_names_the_keys_only() {
    let manifests = good(SECRET);
    let secret = &manifests.secret("default", "git-auth").unwrap().object;
    assert_eq!(secret.get("token"), Some(VALUE.as_bytes()));
    let debug = format!("{secret:?}");
    assert_eq!(
        debug,
        "Secret { namespace: \"default\", name: \"git-auth\", keys: [\"password\", \"token\"], .. }"
    );
    assert!(!everything(&Ok(manifests)).contains(VALUE));
}

#[test]
fn no_refusal_holds_a_value() {
    let bad = [
        ("{password: hunter2}", "hunter2"),
        ("{password: hunter2}", "{password: {hunter2: hunter2}}"),
        ("{password: hunter2}", "[hunter2]"),
        ("{password: hunter2}", "{password: *hunter2}"),
        ("{password: hunter2}", "{password: !hunter2 x"),
        ("{password: hunter2}", "{password: \"\\hunter2\"}"),
        ("{password: hunter2}", "{password: %hunter2}"),
        ("{password: hunter2}", "{password: @hunter2}"),
        ("{password: hunter2}", "{password: hunter2, ? [hunter2]: x}"),
        ("aHVudGVyMg==", "hunter2!"),
        ("kind: Secret", "kind: Sceret"),
        ("kind: Secret", "kind: secret\n\tx"),
        ("kind: Secret", "kind: Secret\ntype: [hunter2]"),
        ("kind: Secret", "kind: Secret\nimmutable: hunter2"),
        ("apiVersion: v1", "apiVersion: v2"),
        (
            "{name: git-auth}",
            "{name: git-auth, annotations: {a: [hunter2]}}",
        ),
        (
            "{name: git-auth}",
            "{name: git-auth, generation: hunter2, uid: {x: hunter2}}",
        ),
        (
            "{name: git-auth}",
            "{name: git-auth, namespace: HUNTER2-hunter2}",
        ),
    ];
    for (from, to) in bad {
        assert!(SECRET.contains(from), "{from}");
        let text = SECRET.replace(from, to);
        let result = load_str("secret.yaml", &text);
        assert!(result.is_err(), "{text}");
        // A key is no value.
        let shown = everything(&result).replace("password.hunter2", "");
        assert!(!shown.contains(VALUE), "{text}\n{shown}");
    }
}

#[test]
fn a_refusal_says_enough() {
    let text = SECRET
        .replace("aHVudGVyMg==", "hunter2!")
        .replace("{password: hunter2}", "{password: 12}");
    let problems = load_str("secret.yaml", &text).unwrap_err();
    assert_eq!(
        rendered(&problems),
        [
            "secret.yaml:4:24: stringData.password: expected text, got a number; put it in quotes",
            "secret.yaml:5:15: data.token: not base64; encode it, or write the plain text under stringData",
        ]
    );
    let problems = load_str(
        "secret.yaml",
        "kind: Secret\nstringData: {password: [hunter2",
    )
    .unwrap_err();
    let text = problems[0].to_string();
    assert!(
        text.contains(": malformed YAML (a Secret may stand here"),
        "{text}"
    );
}
