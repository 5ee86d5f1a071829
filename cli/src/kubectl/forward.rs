//! A way to a pod through the API server, for as long as a command takes.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An address of this machine whose connections end in a pod. Closed when dropped.
pub struct Forward {
    /// The address.
    pub url: String,
    task: JoinHandle<()>,
}

impl Forward {
    /// To a port of a pod.
    ///
    /// # Errors
    /// When the API server does not let one through.
    pub async fn to(pods: Api<Pod>, pod: String, port: u16) -> kube::Result<Self> {
        // The first connection shows whether it can be done.
        let mut next = Some(connect(&pods, &pod, port).await?);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(|e| kube::Error::Service(e.into()))?;
        let address = listener
            .local_addr()
            .map_err(|e| kube::Error::Service(e.into()))?;
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let far = match next.take() {
                    Some(far) => Ok(far),
                    None => connect(&pods, &pod, port).await,
                };
                match far {
                    Ok(mut far) => drop(tokio::spawn(async move {
                        // Either end may close.
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    })),
                    Err(error) => eprintln!("no way to the pod {pod}: {error}"),
                }
            }
        });
        Ok(Self {
            url: format!("http://{address}"),
            task,
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
) -> kube::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
    let mut forwarder = pods.portforward(pod, &[port]).await?;
    let stream = forwarder
        .take_stream(port)
        .context("the port is not forwarded");
    stream.map_err(|e| kube::Error::Service(e.into()))
}
