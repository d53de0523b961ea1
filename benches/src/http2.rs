//! A client that costs next to nothing: gRPC over HTTP/2 (RFC 9113) over TLS, a task for each connection
//! instead of one for each call.
//!
//! A client shares the processors with the servers it measures. tonic's took as much time as the empty echo's
//! server itself, which slowed both down and flattered every ratio. This one writes what a call needs and
//! reads what an answer is, and nothing else: no header of an answer is decoded. A refusal is still no call,
//! since it has no message, and every message is held against what was asked.

use std::collections::HashMap;
use std::fs;
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Done;
use crate::calls::{Expected, Kind, Lengths};
use crate::client::{Desk, lock};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// Bytes of one frame that every peer must accept (RFC 9113 section 4.2).
const FRAME_BYTES: usize = 16 * 1024;
/// A message's flag and length (gRPC over HTTP/2).
const MESSAGE_HEADER_BYTES: usize = 5;
/// What may come unread: as much as there is, answers are read as soon as they come.
const WINDOW_BYTES: u32 = (1 << 31) - 1;
/// What every connection and stream begins with (RFC 9113 section 6.9.2).
const FIRST_WINDOW_BYTES: u32 = 65_535;
/// Received bytes after which the connection's window is opened again.
const WINDOW_STEP_BYTES: u32 = 1 << 24;
const READ_BYTES: usize = 256 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Bytes of a call's header fields when the server remembers all of them.
const SHORT_FIELDS_BYTES: usize = 6;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const SETTING_INITIAL_WINDOW: u16 = 4;

/// One connection. It is driven only while calls are in flight.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    authority: String,
    /// What was read and is no whole frame yet.
    input: Vec<u8>,
    /// Frames to be written at the next turn.
    output: Vec<u8>,
    /// Header fields that the server remembers (RFC 7541 section 2.3.2), the oldest first.
    remembered: Vec<(&'static str, String)>,
    /// The header fields of calls of one kind, once the server remembers all of them.
    short: Option<(Kind, Vec<u8>)>,
    next_stream: u32,
    /// Bytes of data that the server still takes on this connection, and on each new stream.
    room: i64,
    stream_room: i64,
    /// Bytes of data received since the window was last opened.
    received: u32,
    answers: HashMap<u32, Answer>,
}

/// An answer that is not complete yet.
struct Answer {
    begun: Instant,
    expected: Expected,
    bytes: Vec<u8>,
}

/// A frame as it was read.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Connection {
    /// Connects with mutual TLS as `principal`.
    pub(crate) async fn open(folder: &Path, address: SocketAddr, principal: &str) -> Done<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(tls_config(folder, principal)?));
        let stream = connector.connect(ServerName::from(address.ip()), tcp).await?;
        let mut connection = Self {
            stream,
            authority: address.to_string(),
            input: Vec::with_capacity(READ_BYTES),
            output: PREFACE.to_vec(),
            remembered: Vec::new(),
            short: None,
            next_stream: 1,
            room: i64::from(FIRST_WINDOW_BYTES),
            stream_room: i64::from(FIRST_WINDOW_BYTES),
            received: 0,
            answers: HashMap::new(),
        };
        let mut settings = SETTING_INITIAL_WINDOW.to_be_bytes().to_vec();
        settings.extend_from_slice(&WINDOW_BYTES.to_be_bytes());
        connection.write(SETTINGS, 0, 0, &settings);
        connection.open_window(WINDOW_BYTES - FIRST_WINDOW_BYTES);
        // The server's own settings come first; without them a batch would not fit its window.
        while connection.stream_room == i64::from(FIRST_WINDOW_BYTES) {
            connection.turn().await?;
        }
        Ok(connection)
    }

    /// Keeps so many calls in flight until then, each followed by the next as soon as it is answered, and
    /// waits for the last answer.
    pub(crate) async fn load(
        &mut self,
        kind: Kind,
        in_flight: usize,
        desk: &Mutex<Desk>,
        until: Instant,
    ) -> Done {
        self.fill(kind, in_flight, desk)?;
        while !self.answers.is_empty() {
            let ended = self.turn().await?;
            let now = Instant::now();
            let mut answered = 0;
            {
                let mut desk = lock(desk);
                for answer in ended {
                    desk.tally.took(now - answer.begun)?;
                    desk.stock.check(answer.expected, &answer.bytes)?;
                    answered += 1;
                }
            }
            if now < until {
                self.fill(kind, answered, desk)?;
            }
        }
        Ok(())
    }

    /// One call, and how long its messages were.
    pub(crate) async fn once(&mut self, kind: Kind, desk: &Mutex<Desk>) -> Done<Lengths> {
        let (request, expected) = lock(desk).stock.request(kind, &mut 0);
        self.call(kind, &request, expected)?;
        loop {
            if let Some(answer) = self.turn().await?.into_iter().next() {
                lock(desk).stock.check(answer.expected, &answer.bytes)?;
                return Ok(Lengths { request: request.len(), answer: answer.bytes.len() });
            }
        }
    }

    fn fill(&mut self, kind: Kind, count: usize, desk: &Mutex<Desk>) -> Done {
        let mut desk = lock(desk);
        let Desk { stock, tally } = &mut *desk;
        for _ in 0..count {
            let (request, expected) = stock.request(kind, tally.first());
            self.call(kind, &request, expected)?;
        }
        Ok(())
    }

    /// Writes out a call.
    fn call(&mut self, kind: Kind, request: &[u8], expected: Expected) -> Done {
        let stream = self.next_stream;
        self.next_stream += 2;
        let fields = match self.short.take() {
            Some((of, fields)) if of == kind => fields,
            _ => self.header_fields(kind),
        };
        self.write(HEADERS, END_HEADERS, stream, &fields);
        if fields.len() == SHORT_FIELDS_BYTES {
            self.short = Some((kind, fields));
        }
        let mut message = vec![0];
        message.extend_from_slice(&u32::try_from(request.len())?.to_be_bytes());
        message.extend_from_slice(request);
        self.room -= i64::try_from(message.len())?;
        if self.room < 0 || i64::try_from(message.len())? > self.stream_room {
            // Far above what is ever in flight here: waiting for it would measure something else.
            return Err("the server's window is full".into());
        }
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(FRAME_BYTES));
            self.write(DATA, if after.is_empty() { END_STREAM } else { 0 }, stream, part);
            rest = after;
        }
        self.answers.insert(stream, Answer { begun: Instant::now(), expected, bytes: Vec::new() });
        Ok(())
    }

    /// Writes what waits, reads what comes, and gives the answers that are complete.
    async fn turn(&mut self) -> Done<Vec<Answer>> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
            self.output.clear();
        }
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err("the server closed a connection".into());
        }
        let mut input = mem::take(&mut self.input);
        let mut rest = input.as_slice();
        let mut ended = Vec::new();
        while let Some((frame, after)) = Frame::split(rest) {
            ended.extend(self.take(&frame)?);
            rest = after;
        }
        let taken = input.len() - rest.len();
        input.drain(..taken);
        self.input = input;
        Ok(ended)
    }

    /// Takes a frame, and gives the answer that it ends.
    fn take(&mut self, frame: &Frame<'_>) -> Done<Option<Answer>> {
        match frame.kind {
            DATA => self.take_data(frame),
            HEADERS | CONTINUATION => Ok(()),
            SETTINGS if frame.flags & ACK == 0 => self.take_settings(frame.payload),
            PING if frame.flags & ACK == 0 => {
                self.write(PING, ACK, 0, frame.payload);
                Ok(())
            }
            WINDOW_UPDATE if frame.stream == 0 => {
                self.room += i64::from(number(frame.payload)?);
                Ok(())
            }
            RESET => Err("the server reset a call".into()),
            GO_AWAY => Err("the server ends a connection".into()),
            _ => Ok(()),
        }?;
        let is_last = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        let ended = if is_last { self.answers.remove(&frame.stream) } else { None };
        Ok(ended.map(Answer::without_header))
    }

    fn take_data(&mut self, frame: &Frame<'_>) -> Done {
        let answer = self.answers.get_mut(&frame.stream).ok_or("an answer that nobody asked for")?;
        answer.bytes.extend_from_slice(frame.payload);
        self.received += u32::try_from(frame.payload.len())?;
        if self.received > WINDOW_STEP_BYTES {
            self.open_window(self.received);
            self.received = 0;
        }
        Ok(())
    }

    fn take_settings(&mut self, settings: &[u8]) -> Done {
        for setting in settings.chunks_exact(6) {
            let (name, value) = setting.split_at(2);
            if name == SETTING_INITIAL_WINDOW.to_be_bytes() {
                self.stream_room = i64::from(number(value)?);
            }
        }
        self.write(SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    fn open_window(&mut self, bytes: u32) {
        self.write(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // At most FRAME_BYTES, so three bytes hold the length.
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        self.output.extend_from_slice(&length);
        self.output.extend_from_slice(&[kind, flags]);
        self.output.extend_from_slice(&stream.to_be_bytes());
        self.output.extend_from_slice(payload);
    }

    /// The header fields of a call as other clients send them too: what repeats is a number after the first
    /// time (HPACK, RFC 7541).
    fn header_fields(&mut self, kind: Kind) -> Vec<u8> {
        /// `:method: POST` and `:scheme: https` of the static table.
        const POST_HTTPS: [u8; 2] = [0x83, 0x87];
        let mut fields = POST_HTTPS.to_vec();
        let path = kind.path().as_str().to_owned();
        let authority = self.authority.clone();
        for (name, value) in [
            (":path", path),
            (":authority", authority),
            ("te", "trailers".to_owned()),
            ("content-type", "application/grpc".to_owned()),
        ] {
            self.field(name, value, &mut fields);
        }
        fields
    }

    fn field(&mut self, name: &'static str, value: String, into: &mut Vec<u8>) {
        /// Entries of the static table: the dynamic one follows, the newest first.
        const STATIC: usize = 61;
        const INDEXED: u8 = 0x80;
        const LITERAL_REMEMBERED: u8 = 0x40;
        let known = self.remembered.iter().rev().position(|(n, v)| *n == name && *v == value);
        match known {
            // A few entries at most: far from 127, where a second byte would begin.
            Some(newer) => into.push(INDEXED | (STATIC + 1 + newer) as u8),
            None => {
                into.push(LITERAL_REMEMBERED);
                for text in [name, &value] {
                    into.push(text.len() as u8); // below 127, not Huffman-coded
                    into.extend_from_slice(text.as_bytes());
                }
                self.remembered.push((name, value));
            }
        }
    }
}

impl Answer {
    /// The one message of an answer; none at all if it is a refusal.
    fn without_header(mut self) -> Self {
        self.bytes.drain(..MESSAGE_HEADER_BYTES.min(self.bytes.len()));
        self
    }
}

impl<'a> Frame<'a> {
    /// The first frame of what was read, if it is whole, and what follows it.
    fn split(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[a, b, c, kind, flags, s, t, u, v], rest) = input.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        let stream = u32::from_be_bytes([s, t, u, v]);
        Some((Self { kind, flags, stream, payload }, rest))
    }
}

fn number(bytes: &[u8]) -> Done<u32> {
    Ok(u32::from_be_bytes(bytes.try_into()?))
}

fn tls_config(folder: &Path, principal: &str) -> Done<ClientConfig> {
    let certificates = folder.join("certs");
    let read = |file: String| fs::read(certificates.join(file));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.pem".into())?)?)?;
    let certificate = read(format!("{principal}.pem"))?;
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&read(format!("{principal}.key"))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_only_when_whole() {
        let bytes = [0, 0, 2, DATA, END_STREAM, 0, 0, 0, 5, 7, 8, 9];
        let (frame, rest) = Frame::split(&bytes).unwrap();
        assert_eq!(
            (frame.kind, frame.flags, frame.stream, frame.payload),
            (DATA, END_STREAM, 5, &[7, 8][..])
        );
        assert_eq!(rest, [9]);
        assert!(Frame::split(&bytes[..10]).is_none());
        assert!(Frame::split(&bytes[..8]).is_none());
    }
}
