//! Starts `loci up` in a directory of its own and asks it questions.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The longest that anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test.
pub fn loci() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loci"))
}

/// The packaged model.
pub fn model() -> PathBuf {
    let path =
        std::env::var("LOCI_TEST_MODEL").expect("LOCI_TEST_MODEL names no model: run `make test`");
    PathBuf::from(path)
}

/// The packaged decoder, a .gguf file.
pub fn decoder() -> PathBuf {
    let path = std::env::var("LOCI_TEST_DECODER")
        .expect("LOCI_TEST_DECODER names no decoder: run `make test`");
    PathBuf::from(path)
}

/// A directory with a pipeline, its documents and its state.
pub struct Site {
    dir: tempfile::TempDir,
    /// The process that alone sees the disk with the state, when there is one.
    disk: OnceCell<u32>,
}

impl Site {
    /// Three documents, a suite of three questions, gates.
    pub fn new() -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            disk: OnceCell::new(),
        };
        site.write(
            "docs/returns.md",
            "# Returns\n\nA parcel can be sent back within thirty days of delivery.\n",
        );
        site.write(
            "docs/hours.md",
            "# Opening hours\n\nThe workshop opens at nine and closes at six, Monday to Friday.\n",
        );
        site.write(
            "docs/warranty.md",
            "# Warranty\n\nThe frame carries a warranty of five years, the battery of two.\n",
        );
        site.write(
            "docs/rain.md",
            "# Rain\n\nWipe the chain dry after riding in the rain and oil it once a week.\n",
        );
        site.write(
            "docs/keys.md",
            "# Keys\n\nA lost key is replaced at the front desk for twelve euros.\n",
        );
        let questions = [
            ("How long can I return a parcel?", "returns.md"),
            ("When does the workshop open?", "hours.md"),
            ("How long is the warranty of the battery?", "warranty.md"),
        ];
        let lines: Vec<String> = questions
            .iter()
            .map(|(q, d)| {
                json!({"question": q, "expected": [{"source": "docs", "document": d}]}).to_string()
            })
            .collect();
        site.write("suite.jsonl", &lines.join("\n"));
        site.write("pipeline.yaml", &site.manifest(""));
        site
    }

    /// The manifest, with more lines at the end of the spec.
    pub fn manifest(&self, more: &str) -> String {
        format!(
            "apiVersion: loci.dev/v1alpha1
kind: MemoryPipeline
metadata: {{name: shop}}
spec:
  embedder: {{model: \"file://{}\"}}
  sources:
  - {{name: docs, memory: factual, directory: {{path: docs}}}}
  index: {{refresh: {{interval: 2s}}}}
  suites:
  - {{name: faq, retrieval: {{data: {{file: suite.jsonl}}}}}}
  gates:
  - {{suite: faq, metric: recallAt1, floor: \"0.60\"}}
{more}",
            model().display()
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs a command of `loci` on the site's state.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = match self.disk.get() {
            Some(pid) => {
                let mut inside = Command::new("nsenter");
                let pid = pid.to_string();
                inside.args(["-t", &pid, "-U", "-m", "--preserve-credentials"]);
                inside.arg(loci().get_program());
                inside
            }
            None => loci(),
        };
        command
            .args(args)
            .arg("--state")
            .arg(self.path("state"))
            .output()
            .unwrap()
    }

    /// The same; it must succeed, and answers with JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["-o", "json"]].concat());
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts `loci up`.
    pub fn up(&self) -> Up<'_> {
        self.up_with(&[])
    }

    pub fn up_with(&self, args: &[&str]) -> Up<'_> {
        self.spawn(loci(), args)
    }

    /// Starts `loci up` with its state on a disk of its own of so many bytes. `None` where the system does not
    /// let one make such a disk.
    pub fn up_on_small_disk(&self, bytes: u64) -> Option<Up<'_>> {
        let inside = ["-rm", "sh", "-c"];
        let possible = Command::new("unshare")
            .args(inside)
            .arg("mount -t tmpfs tmpfs /mnt")
            .output();
        if !possible.is_ok_and(|o| o.status.success()) {
            return None;
        }
        fs::create_dir(self.path("state")).unwrap();
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && exec \"$@\"");
        command.args(inside).arg(mount).arg(self.path("state"));
        command.arg(loci().get_program());
        let up = self.spawn(command, &[]);
        self.disk.set(up.pid()).unwrap();
        Some(up)
    }

    fn spawn(&self, mut program: Command, args: &[&str]) -> Up<'_> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("up.log"))
            .unwrap();
        let child = program
            .arg("up")
            .arg(self.path("pipeline.yaml"))
            .arg("--state")
            .arg(self.path("state"))
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Up { site: self, child }
    }

    /// Where its state is, as seen from here.
    fn state(&self) -> PathBuf {
        let state = self.path("state");
        match self.disk.get() {
            Some(pid) => format!("/proc/{pid}/root{}", state.display()).into(),
            None => state,
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    /// The number of the release that serves, by its resource.
    pub fn serving(&self) -> Option<i64> {
        let releases = self.json(&["releases"]);
        let serving = releases
            .as_array()?
            .iter()
            .find(|r| r["status"]["phase"] == "Serving")?;
        serving["spec"]["number"].as_i64()
    }
}

/// A running `loci up`; killed when dropped.
pub struct Up<'a> {
    site: &'a Site,
    child: Child,
}

impl Up<'_> {
    /// Waits until it serves, and gives its address.
    pub fn ready(&mut self) -> String {
        self.until("it serves", |up| {
            let url = up.url()?;
            let status = get(&format!("{url}/readyz"))?.0;
            (status == 200).then_some(url)
        })
    }

    /// Its address, once it listens.
    pub fn url(&self) -> Option<String> {
        let server: Value =
            serde_json::from_slice(&fs::read(self.site.state().join("server.json")).ok()?).ok()?;
        (server["pid"] == self.child.id()).then(|| server["url"].as_str().map(str::to_owned))?
    }

    /// Asks again and again until there is an answer.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = ask(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let gone = ended.map(|s| format!("it ended with {s}"));
            let late = (started.elapsed() > PATIENCE).then(|| format!("not after {PATIENCE:?}"));
            if let Some(reason) = gone.or(late) {
                panic!("waiting until {what}: {reason}\n{}", self.site.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits for a clean end.
    pub fn stop(mut self) {
        let done = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success());
        assert!(self.child.wait().unwrap().success(), "{}", self.site.log());
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for one passage: the status and the answer.
pub fn retrieve(url: &str, body: &Value) -> Option<(u16, Value)> {
    post(&format!("{url}/v1/retrieve"), body)
}

/// Sends JSON: the status and the answer.
pub fn post(url: &str, body: &Value) -> Option<(u16, Value)> {
    curl(&[
        "-X",
        "POST",
        "-H",
        "content-type: application/json",
        "-d",
        &body.to_string(),
        url,
    ])
}

pub fn get(url: &str) -> Option<(u16, Value)> {
    curl(&[url])
}

/// One request; `None` when nobody answers.
pub fn curl(args: &[&str]) -> Option<(u16, Value)> {
    let output = Command::new("curl")
        .args(["-s", "-m", "30", "-w", "\n%{http_code}"])
        .args(args)
        .output()
        .unwrap();
    let all = text(&output.stdout);
    let (body, status) = all.rsplit_once('\n')?;
    let status = status.parse().ok().filter(|s| *s != 0)?;
    Some((
        status,
        serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
    ))
}

/// The document of the best passage.
pub fn best(url: &str, question: &str) -> Option<(String, String)> {
    let (status, answer) = retrieve(url, &json!({"query": question, "k": 1}))?;
    assert_eq!(status, 200, "{answer}");
    let passage = &answer["passages"][0];
    let field = |v: &Value| v.as_str().map(str::to_owned);
    Some((
        field(&passage["citation"]["document"])?,
        field(&passage["text"])?,
    ))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
