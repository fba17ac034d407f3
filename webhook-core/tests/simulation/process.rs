//! One process of a simulation: a dispatcher on a runtime of its own, which a crash drops with all its tasks.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use webhook_core::Dispatcher;

use crate::seams::SimStore;

pub(crate) struct Process {
    pub(crate) incarnation: u32,
    pub(crate) dispatcher: Dispatcher<SimStore>,
    pub(crate) is_stalled: bool,
    gate: Arc<Gate>,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
}

/// How a turn of a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All its tasks wait.
    Idle,
    /// It is dead, at an await point.
    Crashed,
    /// `run` has returned.
    Stopped,
}

impl Process {
    /// Starts a worker with what `build` makes around a seam to the world.
    pub(crate) fn start(
        incarnation: u32,
        build: impl FnOnce(Arc<Gate>) -> Dispatcher<SimStore>,
    ) -> Self {
        let gate = Arc::new(Gate::default());
        let parking = Arc::clone(&gate);
        // The future that is blocked on comes after each task: a crash is seen before another one runs.
        // There is no timer: the engine waits by its clock alone.
        let runtime = Builder::new_current_thread()
            .event_interval(1)
            .on_thread_park(move || parking.end_turn(Turn::Idle))
            .build()
            .unwrap();
        let dispatcher = build(Arc::clone(&gate));
        let (stop, stopped) = oneshot::channel::<()>();
        let (worker, gate_of_worker) = (dispatcher.clone(), Arc::clone(&gate));
        runtime.spawn(async move {
            worker.run(async { stopped.await.unwrap_or(()) }).await;
            gate_of_worker.end_turn(Turn::Stopped);
        });
        Self {
            incarnation,
            dispatcher,
            is_stalled: false,
            gate,
            runtime,
            stop: Some(stop),
        }
    }

    /// Runs `work` inside of the process.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Asks the worker to stop.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_none()
    }

    /// Whether a task was woken since the last turn, and can go on.
    pub(crate) fn is_awake(&self) -> bool {
        !self.is_stalled && self.runtime.metrics().global_queue_depth() > 0
    }

    /// Runs its tasks until none can go on.
    pub(crate) fn take_turn(&self) -> Turn {
        self.runtime.block_on(TakeTurn(&self.gate))
    }
}

/// Where a process's tasks, and its runtime when there is nothing to do, end its turn.
#[derive(Default)]
pub(crate) struct Gate(Mutex<GateState>);

#[derive(Default)]
struct GateState {
    ended: Option<Turn>,
    driver: Option<Waker>,
}

impl Gate {
    pub(crate) fn end_turn(&self, how: Turn) {
        let mut state = self.state();
        if state.ended.is_none_or(|before| before == Turn::Idle) {
            state.ended = Some(how);
        }
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TakeTurn<'a>(&'a Gate);

impl Future for TakeTurn<'_> {
    type Output = Turn;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut state = self.0.state();
        match state.ended {
            None => {
                state.driver = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(how) => {
                // Idle is over with the turn; the others are for good.
                state.ended = state.ended.filter(|_| how != Turn::Idle);
                state.driver = None;
                Poll::Ready(how)
            }
        }
    }
}
