//! Streams: all that one node knows and another lacks, at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::gossip::seal::{Incoming, Received, frame_length};
use futures_util::future::select_all;
use nix::sys::socket::SockType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::core::Shared;
use super::sockets::{at_each, open};
use crate::log;

/// How long a peer may take to accept a stream.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the first frame may take: it shows whether it is one of us.
const FIRST: Duration = Duration::from_secs(3);
/// How long an exchange may take as a whole.
const WHOLE: Duration = Duration::from_secs(30);
/// How many streams of others there are at once, and from one address.
const STREAMS: usize = 32;
const STREAMS_OF_ONE: usize = 4;

/// Where streams come in.
#[derive(Debug)]
pub(super) struct Listeners(Vec<TcpListener>);

impl Listeners {
    pub(super) fn bind(addresses: &[IpAddr], port: u16) -> Result<Self, String> {
        at_each(addresses, port, |address| TcpListener::from_std(open(address, SockType::Stream)?.into()))
            .map(Self)
    }

    /// Answers for as long as anybody may ask.
    pub(super) async fn serve(self, core: Shared) {
        let seats = Arc::new(Semaphore::new(STREAMS));
        let guests = Arc::new(Guests::default());
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
            let accepted = select_all(self.0.iter().map(|listener| Box::pin(listener.accept()))).await.0;
            let Ok((stream, from)) = accepted else {
                // Where descriptors are short, it helps to wait.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(guest) = guests.admit(from.ip()) else { continue };
            let core = core.clone();
            tokio::spawn(async move {
                let answered = timeout(WHOLE, answer(&core, stream, from)).await;
                if !matches!(answered, Ok(Some(()))) {
                    log::debug(|| format!("an exchange that {} began came to nothing", from.ip()));
                }
                drop((seat, guest));
            });
        }
    }
}

/// Has an exchange with a peer.
pub(super) async fn ask(core: Shared, to: SocketAddr) {
    let outcome = timeout(WHOLE, exchange(&core, to)).await;
    let why = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(why)) => why,
        Err(_) => "it took too long".to_owned(),
    };
    // It is tried again; a peer that does not answer is told of by other means.
    log::debug(|| format!("exchange with {to}: {why}"));
}

async fn exchange(core: &Shared, to: SocketAddr) -> Result<(), String> {
    let connecting = timeout(CONNECT, TcpStream::connect(to)).await;
    let mut stream = connecting.map_err(|_| "no answer")?.map_err(|error| error.to_string())?;
    let (request, ticket) = core.request();
    stream.write_all(&request).await.map_err(|error| error.to_string())?;
    core.sent(request.len());
    let answer =
        receive(core, &mut stream, to, Incoming::answer(ticket)).await.ok_or("no answer that is one")?;
    core.finish(&answer)
}

async fn answer(core: &Shared, mut stream: TcpStream, from: SocketAddr) -> Option<()> {
    // Nobody keeps a seat for long who does not show that they have the key.
    let mut message = Incoming::request();
    let first = timeout(FIRST, read_frame(&mut stream)).await.ok()??;
    let request = match core.take(from, &mut message, &first).ok()? {
        Some(request) => request,
        None => receive(core, &mut stream, from, message).await?,
    };
    let answer = core.answer(&request)?;
    stream.write_all(&answer).await.ok()?;
    core.sent(answer.len());
    // The end of what is sent is not the end of the connection: a reset would take what is on its way.
    stream.shutdown().await.ok()?;
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    Some(())
}

/// Reads a message, frame by frame.
async fn receive(
    core: &Shared,
    stream: &mut TcpStream,
    from: SocketAddr,
    mut message: Incoming,
) -> Option<Received> {
    loop {
        let frame = read_frame(stream).await?;
        if let Some(received) = core.take(from, &mut message, &frame).ok()? {
            return Some(received);
        }
    }
}

async fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut frame = vec![0; frame_length(length).ok()?];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

/// Who has streams open.
#[derive(Debug, Default)]
struct Guests(Mutex<BTreeMap<IpAddr, usize>>);

struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = streams.entry(address).or_default();
        if *count >= STREAMS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Guest { guests: Arc::clone(self), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut streams = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = streams.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_few_streams_at_once() {
        let guests = Arc::new(Guests::default());
        let address = IpAddr::from([10, 0, 0, 1]);
        let mut held: Vec<_> = (0..STREAMS_OF_ONE).map(|_| guests.admit(address).unwrap()).collect();
        assert!(guests.admit(address).is_none());
        assert!(guests.admit(IpAddr::from([10, 0, 0, 2])).is_some());
        held.pop();
        assert!(guests.admit(address).is_some());
        held.clear();
        assert!(guests.0.lock().unwrap().is_empty());
    }
}
