//! A network that can be slow, deaf or cut, between a client and a server on this machine.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

const BUFFER_BYTES: usize = 64 * 1024;

/// Forwards connections to a server. Threads end with the connections; what listens ends with the process.
pub struct Proxy {
    address: SocketAddr,
    links: Arc<Mutex<Links>>,
}

#[derive(Default)]
struct Links {
    made: Vec<Arc<Link>>,
    /// How the next one begins.
    coming: Held,
}

/// One connection, both ways.
struct Link {
    client: TcpStream,
    server: TcpStream,
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Held {
    requests: bool,
    answers: bool,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let links: Arc<Mutex<Links>> = Arc::default();
        let made = Arc::clone(&links);
        thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let mut links = made.lock().unwrap();
                let held = Mutex::new(links.coming);
                let link = Arc::new(Link { client, server, held, changed: Condvar::new() });
                links.made.push(Arc::clone(&link));
                drop(links);
                let other = Arc::clone(&link);
                thread::spawn(move || link.forward_requests());
                thread::spawn(move || other.forward_answers());
            }
        });
        Self { address, links }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on the answers of every connection are kept back, also of those to come.
    pub fn hold_answers(&self) {
        self.links.lock().unwrap().coming.answers = true;
        self.each(|link| link.hold(|held| held.answers = true));
    }

    /// From here on the requests of every connection there is are kept back, its end too: the server does not
    /// learn that the client is gone.
    pub fn hold_requests(&self) {
        self.each(|link| link.hold(|held| held.requests = true));
    }

    /// Lets everything through that was kept back, also of clients that are gone.
    pub fn deliver(&self) {
        self.each(|link| link.hold(|held| *held = Held::default()));
    }

    /// Ends every connection, on both sides; those to come are whole again.
    pub fn cut(&self) {
        self.each(|link| {
            let _ = link.client.shutdown(Shutdown::Both);
            let _ = link.server.shutdown(Shutdown::Both);
            link.hold(|held| *held = Held::default());
        });
        *self.links.lock().unwrap() = Links::default();
    }

    fn each(&self, change: impl Fn(&Link)) {
        self.links.lock().unwrap().made.iter().for_each(|link| change(link));
    }
}

impl Link {
    fn hold(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_while(&self, held: impl Fn(&Held) -> bool) {
        drop(self.changed.wait_while(self.held.lock().unwrap(), |now| held(now)).unwrap());
    }

    fn forward_requests(&self) {
        forward(&self.client, &self.server, || self.wait_while(|held| held.requests));
    }

    fn forward_answers(&self) {
        forward(&self.server, &self.client, || self.wait_while(|held| held.answers));
    }
}

/// Passes bytes on, and the end after them, each when `pass` returns.
fn forward(mut from: &TcpStream, mut to: &TcpStream, pass: impl Fn()) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        pass();
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}
