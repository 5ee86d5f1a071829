//! The HTTP server.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::error::ApiError;
use crate::api::{FILTERED_ROUTES, OPEN_ROUTES, documents, router};
use crate::auth::{Access, Auth, Tokens};
use crate::connections::{Activity, Connections};
use crate::error::RecallError;
use crate::recall::Recall;
use crate::streams::Streams;

/// Time for the last answers to reach their clients when the drain timeout has passed.
const LAST_WORDS: Duration = Duration::from_secs(1);

struct Guard {
    recall: Recall,
    auth: Auth,
    /// Cancelled when requests in flight have had their time to finish.
    stop: CancellationToken,
    streams: Streams,
}

/// Serves HTTP on `listener` until `shutdown` is cancelled; then takes no more connections,
/// lets requests in flight finish within [`drain_timeout`](crate::RecallOptions::drain_timeout),
/// answers the rest with 503, lets streams finish within
/// [`stream_drain`](crate::RecallOptions::stream_drain), ends the rest with an error and returns.
///
/// # Errors
/// [`RecallError::Exposed`] when authentication is off and the listener is not on loopback;
/// [`RecallError::Http`] when the listener fails.
pub async fn serve(
    listener: TcpListener,
    recall: Recall,
    auth: Auth,
    shutdown: CancellationToken,
) -> Result<(), RecallError> {
    let router = router(recall.clone());
    run(listener, router, recall, auth, shutdown).await
}

async fn run(
    listener: TcpListener,
    router: Router,
    recall: Recall,
    auth: Auth,
    shutdown: CancellationToken,
) -> Result<(), RecallError> {
    let address = listener.local_addr()?;
    if matches!(auth, Auth::Off) && !address.ip().is_loopback() {
        return Err(RecallError::Exposed(address));
    }
    let (drain, stream_drain) = (
        recall.options().drain_timeout,
        recall.options().stream_drain,
    );
    let guard = Arc::new(Guard {
        recall,
        auth,
        stop: CancellationToken::new(),
        streams: Streams::default(),
    });
    let panicked = |panic: Box<dyn Any + Send>| ApiError::panicked(&*panic).into_response();
    let app = router
        .layer(from_fn_with_state(guard.clone(), admit))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(guard.clone(), observe))
        .into_make_service_with_connect_info::<Activity>();
    tracing::info!(%address, "serving HTTP");
    let served = axum::serve(Connections::new(listener), app)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overdue = async {
        shutdown.cancelled().await;
        let requests = async {
            tokio::time::sleep(drain).await;
            guard.stop.cancel();
        };
        tokio::join!(requests, guard.streams.finish_within(stream_drain));
        guard.streams.stop();
        tokio::time::sleep(LAST_WORDS).await;
    };
    let follow = async {
        let readers = async {
            match &guard.auth {
                Auth::Bearer(tokens) => tokens.follow().await,
                Auth::Off | Auth::Anyone => std::future::pending().await,
            }
        };
        let writers = async {
            match &guard.recall.options().writers {
                Some(tokens) => tokens.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = readers => never,
            never = writers => never,
        }
    };
    tokio::select! {
        result = served.into_future() => Ok(result?),
        never = follow => match never {},
        () = overdue => {
            let seconds = drain.max(stream_drain).as_secs_f64();
            tracing::warn!(seconds, "what was in flight did not finish in time");
            Ok(())
        }
    }
}

/// Counts and logs a request, and gives it up when the server's time is over.
async fn observe(
    State(guard): State<Arc<Guard>>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let _active = request
        .extensions()
        .get::<ConnectInfo<Activity>>()
        .map(|ConnectInfo(activity)| activity.begin());
    request.extensions_mut().insert(guard.streams.clone());
    let metrics = guard.recall.metrics();
    let _in_flight = metrics.arrived();
    let response = tokio::select! {
        response = next.run(request) => response,
        () = guard.stop.cancelled() => ApiError::shutting_down().into_response(),
    };
    let (route, code) = (
        path.as_ref().map_or("none", MatchedPath::as_str),
        response.status().as_u16(),
    );
    metrics.answered(route, code);
    let access = response.extensions().get::<Access>();
    let token = access.and_then(Access::name);
    tracing::debug!(%method, route, code, token, ms = start.elapsed().as_secs_f64() * 1e3, "request");
    response
}

/// Lets a request in with what it may see, or not.
async fn admit(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let admitted = match &guard.auth {
        auth if documents::is_below(request.uri().path()) => {
            admit_writer(&request, auth, guard.recall.options().writers.as_ref())
                .map(|()| Access::nothing())
        }
        Auth::Off => from_loopback(&request).map(|()| Access::everything()),
        Auth::Anyone => Ok(Access::everything()),
        Auth::Bearer(tokens) => authorised(&request, tokens),
    };
    let access = match admitted {
        Ok(access) => access,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(access.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(access);
    response
}

fn authorised(request: &Request, tokens: &Tokens) -> Result<Access, ApiError> {
    let path = request.uri().path();
    if OPEN_ROUTES.contains(&path) {
        return Ok(Access::nothing());
    }
    let access = access(request, tokens)?;
    if access.filter().is_none() || FILTERED_ROUTES.contains(&path) {
        return Ok(access);
    }
    let message = format!(
        "the token has a filter and may ask for {} only: use one without",
        FILTERED_ROUTES.join(", ")
    );
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "filtered_token",
        message,
    ))
}

/// What the request's token may see.
fn access(request: &Request, tokens: &Tokens) -> Result<Access, ApiError> {
    match tokens.find(bearer(request)?) {
        Some(access) => Ok(access),
        None => refuse("invalid_token", "the token is not one of this server's"),
    }
}

/// Lets a request about documents in: by the tokens of those who write, or where nobody has a token.
fn admit_writer(request: &Request, auth: &Auth, writers: Option<&Tokens>) -> Result<(), ApiError> {
    if matches!(auth, Auth::Off) {
        from_loopback(request)?;
    }
    let forbidden = |message| Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
    let Some(writers) = writers else {
        return match auth {
            Auth::Off => Ok(()),
            Auth::Anyone | Auth::Bearer(_) => forbidden(
                "nobody may write documents here: start the server with --write-token-file",
            ),
        };
    };
    let token = bearer(request)?;
    match auth {
        _ if writers.find(token).is_some() => Ok(()),
        Auth::Bearer(readers) if readers.find(token).is_some() => {
            forbidden("this token may ask and not write: use one of the write token file")
        }
        _ => refuse("invalid_token", "the token is none of those that may write"),
    }
}

/// The token of a request.
fn bearer(request: &Request) -> Result<&str, ApiError> {
    let Some(header) = request.headers().get(header::AUTHORIZATION) else {
        return refuse(
            "missing_token",
            "no token: send the header Authorization: Bearer <token>",
        );
    };
    let header = header.to_str().ok();
    match header.and_then(|header| header.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => refuse(
            "missing_token",
            "the Authorization header is not of the form Bearer <token>",
        ),
    }
}

fn refuse<T>(code: &'static str, message: &str) -> Result<T, ApiError> {
    Err(ApiError::new(StatusCode::UNAUTHORIZED, code, message))
}

/// Refuses requests whose host is not loopback: a web page that rebinds its own name to
/// 127.0.0.1 still says its own name.
fn from_loopback(request: &Request) -> Result<(), ApiError> {
    let header = request
        .headers()
        .get(header::HOST)
        .map(|host| host.as_bytes());
    let Some(host) = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().as_bytes())
        .or(header)
    else {
        return Ok(());
    };
    if Authority::try_from(host).is_ok_and(|authority| is_loopback(authority.host())) {
        return Ok(());
    }
    let message = "the Host header does not name this machine's loopback: without tokens only localhost, 127.0.0.1 and [::1] are answered";
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "misdirected_request",
        message,
    ))
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.map_or_else(
        |_| host.eq_ignore_ascii_case("localhost"),
        |address| address.is_loopback(),
    )
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;
    use crate::recall::RecallOptions;

    #[tokio::test]
    async fn a_panic_costs_one_answer_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let broken = Router::new().route("/", get(async || -> () { panic!("a test's panic") }));
        let recall = Recall::new(RecallOptions::default()).unwrap();
        let router = broken.merge(router(recall.clone()));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(run(listener, router, recall, Auth::Off, shutdown.clone()));
        for _ in 0..2 {
            let response = reqwest::get(&url).await.unwrap();
            assert_eq!(response.status(), 500);
            assert!(response.text().await.unwrap().contains("internal_error"));
            let health = reqwest::get(format!("{url}/healthz")).await.unwrap();
            assert_eq!(health.status(), 200);
        }
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }

    #[test]
    fn loopback_has_few_names() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.1",
            "[::2]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
