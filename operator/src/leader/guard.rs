//! The way to the API server of who leads: each write asks first whether this process still does.

use std::future::ready;
use std::task::{Context, Poll};

use axum::http::{Method, Request};
use futures::future::{BoxFuture, FutureExt, TryFutureExt};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;
use tower::{BoxError, Layer, Service};

use super::Standing;

/// A client whose writes are refused, as [`kube::Error::Service`], while this process does not lead.
///
/// # Errors
/// When no client can be made of `config`.
pub fn client(mut config: Config, standing: &Standing) -> kube::Result<Client> {
    // What the API server puts off is sent again from outside of the guard: by then, another may lead.
    let retries = std::mem::take(&mut config.default_retry);
    let guarded = ClientBuilder::try_from(config)?.with_layer(&Guard(standing.clone()));
    if !retries {
        return Ok(guarded.build());
    }
    let again = RetryLayer::new(RetryPolicy::server_retry());
    let queue = BufferLayer::<Request<Body>>::new(1024);
    Ok(guarded.with_layer(&queue).with_layer(&again).build())
}

struct Guard(Standing);

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            standing: self.0.clone(),
        }
    }
}

struct Guarded<S> {
    inner: S,
    standing: Standing,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>>,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        match self.standing.check() {
            Err(refused) if !reads => ready(Err(refused.into())).boxed(),
            _ => self.inner.call(request).map_err(Into::into).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::{Duration, Instant};

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn who_does_not_lead_reads_and_writes_nothing() {
        let standing = Standing::new(true);
        let reached = service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(request.method().clone())
        });
        let guarded = async |method: Method| {
            let request = Request::builder().method(method).body(()).unwrap();
            let service = Guard(standing.clone()).layer(reached);
            service.oneshot(request).await.map_err(|e| e.to_string())
        };
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for method in &writes {
            let refused = guarded(method.clone()).await.unwrap_err();
            assert!(refused.contains("stands by"), "{refused}");
        }
        assert_eq!(guarded(Method::GET).await, Ok(Method::GET));
        standing.lead(3, Instant::now() + Duration::from_secs(60));
        for method in &writes {
            assert_eq!(guarded(method.clone()).await.as_ref(), Ok(method));
        }
        // As after a SIGSTOP: nobody has noticed yet, the deadline has passed.
        standing.lead(3, Instant::now());
        for method in &writes {
            let refused = guarded(method.clone()).await.unwrap_err();
            assert!(refused.contains("term 3"), "{refused}");
        }
        assert_eq!(guarded(Method::GET).await, Ok(Method::GET));
    }
}
