//! Health is the one service that every valid certificate may ask, since load balancers have no principal.

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;

use vault_tests::engines::ENGINES;

use crate::site::Site;

#[tokio::test]
async fn health_tells_every_certificate_whether_calls_are_served_and_nothing_else() {
    for engine in ENGINES {
        check(&Site::start(engine).await).await;
    }
}

async fn check(site: &Site) {
    for principal in ["checkout", "stranger"] {
        let mut health = HealthClient::new(site.channel(principal));
        let mut expected = vec![("", Serving), ("vault.v1.Custody", Serving)];
        for sealed in [false, true] {
            let data = if sealed { NotServing } else { Serving };
            expected.truncate(2);
            let services = ["vault.v1.Tokenization", "vault.v1.Batches", "vault.v1.Audit"];
            expected.extend(services.map(|service| (service, data)));
            for (service, status) in &expected {
                let request = HealthCheckRequest { service: (*service).to_owned() };
                let answer = health.check(request).await.unwrap().into_inner();
                assert_eq!(answer.status(), *status, "{service:?}, sealed: {sealed}");
            }
            if sealed { site.unseal().await } else { site.seal().await }
        }
        let request = HealthCheckRequest { service: "vault.v1.Nothing".to_owned() };
        assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
    }
}
