//! A client that knows every daemon: it is answered while they die, and stores nothing twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tonic::Status;
use vault_proto::Daemons;
use vault_proto::daemons::{Repeat, Terms};
use vault_proto::v1::TokenizeRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_tests::cluster::Cluster;
use vault_tests::values::{Seeded, seed};

use crate::several::{DAEMONS, Site, tokenize};

const CALLERS: usize = 8;
const ROUNDS: usize = 4;
const LOAD: Duration = Duration::from_millis(700);
/// Long enough for a daemon to be started again, however busy the machine is.
const TERMS: Terms =
    Terms { repeat: Repeat::Freely, attempt: Duration::from_secs(10), within: Duration::from_secs(120) };

async fn token(daemons: &Daemons, request: &TokenizeRequest) -> Result<String, Status> {
    let answer =
        daemons.call(TERMS, async |channel| TokenizationClient::new(channel).tokenize(request.clone()).await);
    Ok(answer.await?.into_inner().token)
}

#[test]
fn every_call_is_answered_while_daemons_die() {
    let database = Cluster::shared().database();
    let mut site = Site::start(&database);
    // All serve before one dies.
    drop(site.clients("plain"));
    let daemons = Arc::new(site.daemons("plain"));
    let mut numbers = Seeded::new(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (stop, daemons) = (Arc::clone(&stop), Arc::clone(&daemons));
            let mut numbers = Seeded::new(numbers.next());
            site.runtime.spawn(async move {
                let mut stored = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let request = tokenize(&numbers.pan(16), &format!("call-{caller}-{}", stored.len()));
                    let token = token(&daemons, &request).await.unwrap();
                    stored.push((token, request));
                }
                stored
            })
        })
        .collect();
    for round in 0..ROUNDS {
        thread::sleep(LOAD);
        site.kill(round % DAEMONS);
        thread::sleep(LOAD);
        site.start_again(round % DAEMONS);
    }
    stop.store(true, Ordering::Relaxed);
    let stored: Vec<_> = asking.into_iter().flat_map(|asked| site.runtime.block_on(asked).unwrap()).collect();
    assert!(stored.len() > CALLERS * ROUNDS, "{} calls", stored.len());
    told_once(&site, &daemons, &stored);
}

/// Each key still has the outcome that its caller was told, and no two share one.
fn told_once(site: &Site, daemons: &Daemons, stored: &[(String, TokenizeRequest)]) {
    let mut of_token = HashMap::new();
    for (told, request) in stored {
        let again = site.runtime.block_on(token(daemons, request)).unwrap();
        assert_eq!(&again, told, "{} has two outcomes", request.idempotency_key);
        assert_eq!(of_token.insert(told, &request.idempotency_key), None, "two keys, one token");
    }
}
