//! `grpc.health.v1`: the process (`""`) is up; a service is ready while the vault serves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Interval, interval};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::custody::{Custody, Standing};

/// How soon a watcher hears of a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The services whose readiness can be asked; custody answers while sealed too.
const DATA_SERVICES: [&str; 4] =
    ["vault.v1.Tokenization", "vault.v1.Batches", "vault.v1.Audit", "vault.v1.Keys"];
const CUSTODY_SERVICE: &str = "vault.v1.Custody";

/// Tells health from the vault's state as it is asked.
#[derive(Clone)]
pub(super) struct HealthOf {
    custody: Arc<Custody>,
}

impl HealthOf {
    /// The health of this vault.
    pub(super) fn new(custody: Arc<Custody>) -> Self {
        Self { custody }
    }

    /// `None`: there is no such service.
    fn serving(&self, service: &str) -> Option<ServingStatus> {
        if service.is_empty() || service == CUSTODY_SERVICE {
            return Some(ServingStatus::Serving);
        }
        let unsealed = self.custody.standing() == Standing::Unsealed;
        let status = if unsealed { ServingStatus::Serving } else { ServingStatus::NotServing };
        DATA_SERVICES.contains(&service).then_some(status)
    }
}

#[tonic::async_trait]
impl Health for HealthOf {
    type WatchStream = Watch;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.serving(&request.get_ref().service) {
            Some(status) => Ok(Response::new(HealthCheckResponse { status: status.into() })),
            None => Err(Status::not_found("no such service")),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let service = request.into_inner().service;
        Ok(Response::new(Watch { of: self.clone(), service, told: None, look: interval(LOOK_EVERY) }))
    }
}

/// The states of one service, each told once, for as long as the connection lives.
pub(super) struct Watch {
    of: HealthOf,
    service: String,
    told: Option<ServingStatus>,
    look: Interval,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.look.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            let status = self.of.serving(&self.service).unwrap_or(ServingStatus::ServiceUnknown);
            if self.told != Some(status) {
                self.told = Some(status);
                return Poll::Ready(Some(Ok(HealthCheckResponse { status: status.into() })));
            }
        }
    }
}
