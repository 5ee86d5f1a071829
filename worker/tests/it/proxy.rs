//! A way to a server that breaks in the middle of an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// So much of an answer passes before.
const PASSES: usize = 100_000;

/// What happens to answers to some request.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Nothing more comes, and the connection stays.
    Stall { times: usize },
    /// The connection is cut.
    Cut { times: usize },
    /// The first is cut when the test says so.
    CutWhenTold,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    request: String,
    fault: Fault,
    struck: AtomicUsize,
    strikes: Notify,
    told: Notify,
}

impl Proxy {
    /// To `http://host:port`; requests that contain `request` meet the fault.
    pub async fn start(upstream: &str, request: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            request: request.to_owned(),
            fault,
            struck: AtomicUsize::default(),
            strikes: Notify::new(),
            told: Notify::new(),
        });
        tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    tokio::spawn(pass(client, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often the fault struck.
    pub fn struck(&self) -> usize {
        self.shared.struck.load(Ordering::SeqCst)
    }

    pub async fn until_struck(&self) {
        self.shared.strikes.notified().await;
    }

    /// For [`Fault::CutWhenTold`].
    pub fn go_on(&self) {
        self.shared.told.notify_one();
    }
}

async fn pass(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(&shared.upstream).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let armed = AtomicBool::new(false);
    // Whoever ends first ends the connection.
    tokio::select! {
        () = requests(from_client, to_server, &shared, &armed) => {}
        () = answers(from_server, to_client, &shared, &armed) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    armed: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..read]);
        armed.store(text.contains(&shared.request), Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    armed: &AtomicBool,
) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        if !armed.load(Ordering::SeqCst) {
            passed = 0;
            continue;
        }
        passed += read;
        let struck = shared.struck.load(Ordering::SeqCst);
        let (times, stalls) = match shared.fault {
            Fault::Stall { times } => (times, true),
            Fault::Cut { times } => (times, false),
            Fault::CutWhenTold => (1, false),
        };
        if passed < PASSES || struck >= times {
            continue;
        }
        shared.struck.fetch_add(1, Ordering::SeqCst);
        shared.strikes.notify_one();
        match shared.fault {
            Fault::CutWhenTold => shared.told.notified().await,
            _ if stalls => std::future::pending().await,
            _ => {}
        }
        return;
    }
}
