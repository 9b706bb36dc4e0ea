//! A connection that can be cut, silenced or sent away, and the body of an answer that can be reset.
//!
//! Comes in: any stream of bytes; orders to end. Goes out: the same bytes until then. What was written before the order
//! leaves first, so that a fault after an event does not take the event along.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::http::lock;

/// A fault waits so long at most for what was written before it: the other side may have stopped reading.
const FLUSH: Duration = Duration::from_millis(500);

/// A link begins with neither.
const CLOSED: u8 = 1;
const SILENT: u8 = 2;

/// What is known of a connection outside of it.
#[derive(Default)]
pub(crate) struct Link {
    mode: AtomicU8,
    written: AtomicU64,
    progress: Notify,
    waker: AtomicWaker,
    away: Notify,
}

impl Link {
    pub fn close(&self) {
        self.turn(CLOSED);
    }

    pub fn silence(&self) {
        self.turn(SILENT);
    }

    fn turn(&self, mode: u8) {
        self.mode.store(mode, Ordering::Release);
        self.waker.wake();
    }

    pub fn send_away(&self) {
        self.away.notify_one();
    }

    /// When the connection is to say GOAWAY.
    pub async fn sent_away(&self) {
        self.away.notified().await;
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Until so many bytes were written.
    async fn flushed(self: Arc<Self>, target: u64) {
        let flushed = async {
            loop {
                let progress = self.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if self.written() >= target {
                    return;
                }
                progress.await;
            }
        };
        // Too late is no reason not to end it.
        let _ = tokio::time::timeout(FLUSH, flushed).await;
    }
}

pub(crate) struct LinkIo<S> {
    stream: S,
    link: Arc<Link>,
}

impl<S> LinkIo<S> {
    pub fn new(stream: S, link: Arc<Link>) -> Self {
        Self { stream, link }
    }

    fn mode(&self, cx: &mut Context<'_>) -> u8 {
        self.link.waker.register(cx.waker());
        self.link.mode.load(Ordering::Acquire)
    }
}

fn cut<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a fault was ordered")))
}

impl<S: AsyncRead + Unpin> AsyncRead for LinkIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.mode(cx) {
            CLOSED => cut(),
            SILENT => Poll::Pending,
            _ => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LinkIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.mode(cx) {
            CLOSED => cut(),
            SILENT => Poll::Ready(Ok(bytes.len())),
            _ => {
                let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
                self.link.written.fetch_add(count as u64, Ordering::AcqRel);
                self.link.progress.notify_waiters();
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.mode(cx) {
            CLOSED => cut(),
            SILENT => Poll::Ready(Ok(())),
            _ => Pin::new(&mut self.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.mode(cx) {
            SILENT => Poll::Pending,
            _ => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// RST_STREAM with this code, without a status.
    Reset(u32),
    Close,
    Silence,
}

/// How one answer is told to end otherwise than by a status.
pub(crate) struct Exit {
    pub link: Arc<Link>,
    order: Mutex<(Option<Ending>, Option<Waker>)>,
}

impl Exit {
    pub fn new(link: Arc<Link>) -> Arc<Exit> {
        Arc::new(Exit { link, order: Mutex::default() })
    }

    /// Behind what the answer has sent so far.
    pub fn leave(&self, ending: Ending) {
        let mut order = lock(&self.order);
        order.0 = Some(ending);
        if let Some(waker) = order.1.take() {
            waker.wake();
        }
    }

    fn ordered(&self, cx: &mut Context<'_>) -> Option<Ending> {
        let mut order = lock(&self.order);
        order.1 = Some(cx.waker().clone());
        order.0
    }
}

type Leaving = (Pin<Box<dyn Future<Output = ()> + Send>>, Ending);

/// An answer's body, as it was, with a way out.
pub(crate) struct ExitBody {
    inner: tonic::body::Body,
    exit: Arc<Exit>,
    /// So many bytes are written on the connection when all of this body is.
    target: u64,
    leaving: Option<Leaving>,
}

impl ExitBody {
    pub fn new(inner: tonic::body::Body, exit: Arc<Exit>) -> ExitBody {
        ExitBody { inner, exit, target: 0, leaving: None }
    }
}

impl Body for ExitBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.leaving.is_none() {
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    this.target = this.target.max(this.exit.link.written()) + length;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            let Some(ending) = this.exit.ordered(cx) else { return Poll::Pending };
            this.leaving = Some((Box::pin(Arc::clone(&this.exit.link).flushed(this.target)), ending));
        }
        let Some((flushed, ending)) = &mut this.leaving else { return Poll::Pending };
        ready!(flushed.as_mut().poll(cx));
        match *ending {
            Ending::Reset(code) => Poll::Ready(Some(Err(Box::new(h2::Error::from(h2::Reason::from(code)))))),
            Ending::Close => {
                this.exit.link.close();
                Poll::Pending
            }
            Ending::Silence => {
                this.exit.link.silence();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
