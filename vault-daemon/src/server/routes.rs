//! Which service answers which path.
//!
//! tonic's own `Routes` would bring a whole web framework and a boxed clone per call for what is a look-up
//! among half a dozen names.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

/// The gRPC services of one core. Cheap to clone: every connection of the core holds one.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<Vec<(&'static str, Box<dyn Route>)>>,
}

impl Routes {
    /// Routes with one service; see [`Routes::add_service`].
    pub fn new<S>(service: S) -> Self
    where
        S: GrpcService,
    {
        Self::default().add_service(service)
    }

    /// Adds a service as tonic generates it. Of two services with one name the first answers.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: GrpcService,
    {
        let mut services = Arc::into_inner(self.services).unwrap_or_default();
        services.push((S::NAME, Box::new(Always(service))));
        self.services = Arc::new(services);
        self
    }

    /// The answer to one request: of the service its path names, or `UNIMPLEMENTED`.
    pub fn call(&self, request: Request<Body>) -> BoxFuture<Response<Body>, Infallible> {
        match self.find(request.uri().path()) {
            Some(service) => service.call(request),
            None => Box::pin(std::future::ready(Ok(Status::unimplemented("").into_http()))),
        }
    }

    /// `/package.Service/Method` → the service of that name.
    fn find(&self, path: &str) -> Option<&dyn Route> {
        let (name, _method) = path.strip_prefix('/')?.split_once('/')?;
        self.services.iter().find(|(service, _)| *service == name).map(|(_, service)| service.as_ref())
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.services.iter().map(|(name, _)| name)).finish()
    }
}

/// A service as tonic generates it: always ready, boxed answers, named.
///
/// It is called without asking for readiness, as generated services have no back-pressure of their own; the
/// bounds are the server's and the lane's.
pub trait GrpcService:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<Response<Body>, Infallible>,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

trait Route: Send + Sync {
    fn call(&self, request: Request<Body>) -> BoxFuture<Response<Body>, Infallible>;
}

struct Always<S>(S);

impl<S> Route for Always<S>
where
    S: GrpcService,
{
    fn call(&self, request: Request<Body>) -> BoxFuture<Response<Body>, Infallible> {
        self.0.clone().call(request)
    }
}
