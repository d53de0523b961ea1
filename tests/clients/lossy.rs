//! A network that loses one answer when it hurts: the vault has committed, and the client does not know.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// More than a client sends before its first call (a handshake takes about 2 KiB), less than a batch of 200.
const REQUEST_BYTES: usize = 5 * 1024;
/// More than a server says on its own account, less than the answer to a batch of 200: once so much is lost,
/// the vault has committed.
const ANSWER_BYTES: usize = 6 * 1024;

/// Passes bytes on between clients and a vault. On the first connection that carries a large request,
/// everything the vault says from then on is lost, and the connection ends in the middle of the answer.
pub(crate) struct LossyNetwork {
    address: SocketAddr,
    lost: Arc<AtomicUsize>,
}

impl LossyNetwork {
    pub(crate) fn before(vault: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lost = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lost);
        // Ends with the test's process, as a network would not.
        thread::spawn(move || {
            for client in listener.incoming() {
                pass_on(client.unwrap(), TcpStream::connect(vault).unwrap(), &counted);
            }
        });
        Self { address, lost }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn answers_lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

fn pass_on(client: TcpStream, vault: TcpStream, lost: &Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (from_client, to_vault) = (client.try_clone().unwrap(), vault.try_clone().unwrap());
    let counted = Arc::clone(&sent);
    thread::spawn(move || {
        let _ = requests(from_client, to_vault, &counted);
    });
    let lost = Arc::clone(lost);
    thread::spawn(move || {
        let _ = answers(vault, client, &sent, &lost);
    });
}

fn requests(mut client: TcpStream, mut vault: TcpStream, sent: &AtomicUsize) -> io::Result<()> {
    let mut piece = [0; 1_024];
    loop {
        let length = client.read(&mut piece)?;
        if length == 0 {
            return vault.shutdown(Shutdown::Write);
        }
        // Counted before it is passed on: the answer comes after.
        sent.fetch_add(length, Ordering::SeqCst);
        vault.write_all(&piece[..length])?;
    }
}

fn answers(
    mut vault: TcpStream,
    mut client: TcpStream,
    sent: &AtomicUsize,
    lost: &AtomicUsize,
) -> io::Result<()> {
    let mut piece = [0; 1_024];
    let mut swallowed = 0;
    loop {
        let length = vault.read(&mut piece)?;
        if length == 0 {
            return client.shutdown(Shutdown::Write);
        }
        if lost.load(Ordering::SeqCst) == 0 && sent.load(Ordering::SeqCst) > REQUEST_BYTES {
            swallowed += length;
            if swallowed > ANSWER_BYTES {
                lost.fetch_add(1, Ordering::SeqCst);
                vault.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
        } else {
            client.write_all(&piece[..length])?;
        }
    }
}
