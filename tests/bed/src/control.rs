//! The control plane.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, GetParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::commands::{self, AUDIT_LOG, KUBECONFIG, Ports};
use crate::guard::Guard;
use crate::programs::Programs;
use crate::{Error, Result, keys, log};

const STORE: &str = "etcd";
const API: &str = "kube-apiserver";
const CONTROLLERS: &str = "kube-controller-manager";

/// Who applies what a test installs.
const FIELD_MANAGER: &str = "loci-testbed";

/// Plenty for a busy machine; a start takes 2 to 3 s.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A port can be taken by another between its choice and its use.
const STARTS: usize = 3;

/// A running control plane. It ends, and its directory goes, when it is dropped or this process ends, however that comes.
#[derive(Debug)]
pub struct ControlPlane {
    programs: Programs,
    dir: PathBuf,
    guard: Mutex<Guard>,
    controllers: OnceCell<()>,
}

/// The user name of a service account. Who [acts as](ControlPlane::client_as) it is in a service account's groups too.
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

impl ControlPlane {
    /// A control plane of its own.
    ///
    /// # Errors
    /// When a program is missing, ends, or is not ready in time.
    pub async fn start() -> Result<Self> {
        let programs = Programs::find()?;
        for _ in 1..STARTS {
            match Self::start_once(&programs).await {
                Err(Error::Ended { log, .. }) if log.contains("address already in use") => {}
                result => return result,
            }
        }
        Self::start_once(&programs).await
    }

    /// The control plane that all tests of this process share: each works in a [namespace](Self::namespace) of its own.
    ///
    /// # Errors
    /// As for [`start`](Self::start); the next call tries again.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn start_once(programs: &Programs) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("loci-testbed-")
            .tempdir()?
            .keep();
        let mut guard = Guard::new(dir.clone())?;
        let ports = Ports::free()?;
        keys::write(&dir)?;
        commands::write_files(&dir, ports)?;
        guard.spawn(STORE, &programs.path(STORE)?, &commands::store(ports))?;
        guard.spawn(API, &programs.path(API)?, &commands::api_server(ports))?;
        log::watch(guard.log(API));
        let plane = Self {
            programs: programs.clone(),
            dir,
            guard: Mutex::new(guard),
            controllers: OnceCell::new(),
        };
        plane.ready().await?;
        Ok(plane)
    }

    async fn ready(&self) -> Result<()> {
        let client = self.client().await?;
        self.wait("the API server's readiness", async || {
            Ok(answers(&client, "", "readyz").await)
        })
        .await
    }

    /// Starts the controllers, once: they collect garbage by owner references, empty namespaces that are deleted, and
    /// make each namespace's `default` service account. Install definitions before: garbage of a kind that the
    /// controllers meet later is collected half a minute later.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn controllers(&self) -> Result<()> {
        let start = async || {
            let program = self.programs.path(CONTROLLERS)?;
            self.guard()
                .spawn(CONTROLLERS, &program, &commands::controllers())?;
            let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
            self.wait("the controllers' work", async || {
                Ok(accounts.get_opt("default").await?.is_some())
            })
            .await
        };
        self.controllers.get_or_try_init(start).await.copied()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join(KUBECONFIG)
    }

    /// A client of the administrator's, for the runtime that it is made in.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// A client that acts as another user. [`service_account`] gives the name of a service account, whose groups come by themselves.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or a name cannot be sent.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.config().await?;
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&g| g.to_owned()).collect());
        Ok(Client::try_from(config)?)
    }

    /// What [`client`](Self::client) is made of.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn config(&self) -> Result<Config> {
        let file = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
    }

    /// Makes a namespace whose name starts with `prefix` and gives the name.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let wanted =
            serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}}))?;
        let all: Api<Namespace> = Api::all(self.client().await?);
        let made = all.create(&PostParams::default(), &wanted).await?;
        Ok(made.metadata.name.unwrap_or_default())
    }

    /// Applies CustomResourceDefinitions and waits until their kinds are served.
    ///
    /// # Errors
    /// When the API server refuses one, or does not establish it.
    pub async fn install(&self, definitions: &[Value]) -> Result<()> {
        let client = self.client().await?;
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let apply = PatchParams::apply(FIELD_MANAGER).force();
        for definition in definitions {
            let name = definition["metadata"]["name"].as_str().unwrap_or_default();
            api.patch(name, &apply, &Patch::Apply(definition)).await?;
        }
        for definition in definitions {
            let typed: CustomResourceDefinition = serde_json::from_value(definition.clone())?;
            let name = typed.metadata.name.as_deref().unwrap_or_default();
            self.wait(&format!("{name}, established"), async || {
                Ok(established(&api.get(name).await?))
            })
            .await?;
            for version in typed.spec.versions.iter().filter(|v| v.served) {
                let group = format!("/apis/{}/{}", typed.spec.group, version.name);
                self.wait(&format!("{name}, served"), async || {
                    Ok(answers(&client, &group, &typed.spec.names.plural).await)
                })
                .await?;
            }
        }
        Ok(())
    }

    /// The requests so far, as audit events: who asked what, and which role allowed it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.dir.join(AUDIT_LOG))?;
        // What follows the last line's end is being written.
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let events = whole.lines().map(serde_json::from_str);
        Ok(events.collect::<Result<_, _>>()?)
    }

    /// Waits until `done`, as long as all programs run.
    async fn wait(&self, what: &str, done: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done().await? {
            let ended = self.guard().ended()?;
            if let Some((program, status)) = ended {
                let log = log::tail(&self.guard().log(program));
                return Err(Error::Ended {
                    program,
                    status,
                    log,
                });
            }
            if Instant::now() > deadline {
                return Err(Error::Late {
                    what: what.to_owned(),
                    seconds: PATIENCE.as_secs(),
                    log: log::tail(&self.guard().log(API)),
                });
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let log = self.guard().log(API);
        log::forget(&log);
    }
}

/// Whether `folder` and `name` are answered.
async fn answers(client: &Client, folder: &str, name: &str) -> bool {
    let Ok(request) = Request::new(folder).get(name, &GetParams::default()) else {
        return false;
    };
    client.request_text(request).await.is_ok()
}

fn established(definition: &CustomResourceDefinition) -> bool {
    let status = definition.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|c| c.type_ == "Established" && c.status == "True")
}
