//! Connections: a bounded number, and none that waits for a request for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Closed after so long without a request, or with one whose head does not end; it may take up
/// to twice as long to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener that bounds its connections.
pub(crate) struct Connections {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    patience: Duration,
}

impl Connections {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            patience: PATIENCE,
        }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Nobody closes the semaphore.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let (activity, patience) = (Activity::new(), self.patience);
        (
            Connection {
                stream,
                activity,
                patience,
                check: Box::pin(sleep(patience)),
                _slot: slot,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The requests of one connection that are being answered.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<Requests>>);

struct Requests {
    active: usize,
    idle_since: Instant,
}

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Requests {
            active: 0,
            idle_since: Instant::now(),
        })))
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in, until the result is dropped.
    pub(crate) fn begin(&self) -> Active {
        self.requests().active += 1;
        Active(self.clone())
    }

    fn idle_for(&self) -> Duration {
        let requests = self.requests();
        if requests.active > 0 {
            Duration::ZERO
        } else {
            requests.idle_since.elapsed()
        }
    }
}

impl Connected<IncomingStream<'_, Connections>> for Activity {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().activity.clone()
    }
}

/// A request being answered.
pub(crate) struct Active(Activity);

impl Drop for Active {
    fn drop(&mut self) {
        let mut requests = self.0.requests();
        requests.active -= 1;
        requests.idle_since = Instant::now();
    }
}

/// A connection that fails to read once it has been idle for too long.
pub(crate) struct Connection {
    stream: TcpStream,
    activity: Activity,
    patience: Duration,
    check: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.check.as_mut().poll(cx).is_ready() {
            if this.activity.idle_for() >= this.patience {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            this.check.as_mut().reset(Instant::now() + this.patience);
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_head_that_does_not_end_is_cut_off_and_a_slow_answer_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections {
            patience: Duration::from_millis(100),
            ..Connections::new(listener)
        };
        let slow = |ConnectInfo(activity): ConnectInfo<Activity>| async move {
            let _active = activity.begin();
            sleep(Duration::from_millis(500)).await;
            "done"
        };
        let app = Router::new()
            .route("/", get(slow))
            .into_make_service_with_connect_info::<Activity>();
        let server = tokio::spawn(async move { axum::serve(connections, app).await });
        let talk = |request: &'static str| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ =
                tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer))
                    .await
                    .expect("it is closed");
            answer
        };
        assert!(
            !talk("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
                .await
                .contains("done")
        );
        assert!(
            talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .ends_with("done")
        );
        server.abort();
    }
}
