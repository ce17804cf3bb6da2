//! The state machine: one batch at a time, all running answers in each, prompts in the room left.

use std::collections::{BTreeMap, VecDeque};

use cloister_domain::{Principal, SequenceId, TokenCount};

use crate::{AdmissionError, Limits, Request};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A sequence wants to run.
    Arrived(Request),
    /// Nobody waits for the sequence any more.
    Cancelled(SequenceId),
    /// The batch of the last [`Action::Run`] is done.
    Ran(Vec<Ran>),
}

/// What became of one sequence of a batch; those that are not named go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The sequence.
    pub id: SequenceId,
    /// Whether its answer is complete, or it failed.
    pub is_ended: bool,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the asker that it is not taken.
    Refuse(SequenceId, AdmissionError),
    /// Reserve this much cache; the sequence runs from now on.
    Open(SequenceId, TokenCount),
    /// Let go of the sequence.
    Close(SequenceId),
    /// Run one batch, then tell of it by [`Event::Ran`].
    Run(Vec<Work>),
}

/// One sequence's part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Tokens `from..to` of the prompt; after the last of them a token is drawn.
    Prefill {
        /// The sequence.
        id: SequenceId,
        /// First token.
        from: u32,
        /// One past the last.
        to: u32,
        /// Whether the prompt ends here.
        is_last: bool,
    },
    /// The token drawn before; another is drawn after it.
    Decode {
        /// The sequence.
        id: SequenceId,
    },
}

impl Work {
    const fn id(&self) -> SequenceId {
        match self {
            Self::Prefill { id, .. } | Self::Decode { id } => *id,
        }
    }
}

#[derive(Debug)]
struct Running {
    id: SequenceId,
    principal: Principal,
    prompt: u32,
    /// Prompt tokens that ran.
    done: u32,
    /// Tokens drawn.
    drawn: u32,
    max_tokens: u32,
    room: u32,
}

/// What one principal waits for and when it was last served.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Request>,
    last_turn: u64,
}

/// Continuous batching over a bounded cache.
///
/// Among principals that wait, the one with the least cache in use comes first, then the one that
/// was served longest ago; within a principal, in order of arrival. Whoever comes first and does not
/// fit yet is waited for, so that long conversations are not overtaken for ever.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    queues: BTreeMap<Principal, Queue>,
    running: VecDeque<Running>,
    in_flight: Vec<SequenceId>,
    /// Cancelled while in flight: closed when the batch is done.
    cancelled: Vec<SequenceId>,
    turns: u64,
}

impl Scheduler {
    /// An engine at rest.
    ///
    /// # Panics
    /// When a bound of `limits` that must be at least 1 is 0.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let positive = [limits.page.0, limits.running_max, limits.prefill_max.0];
        assert!(positive.iter().all(|bound| *bound > 0), "bounds are at least 1");
        Self {
            limits,
            queues: BTreeMap::new(),
            running: VecDeque::new(),
            in_flight: Vec::new(),
            cancelled: Vec::new(),
            turns: 0,
        }
    }

    /// Sequences that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queues.values().map(|queue| queue.waiting.len()).sum()
    }

    /// Takes what happened and says what to do. At most one batch is in flight.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Arrived(request) => self.arrive(request, &mut actions),
            Event::Cancelled(id) => self.cancel(id, &mut actions),
            Event::Ran(ran) => self.ran(&ran, &mut actions),
        }
        if self.in_flight.is_empty() {
            self.admit(&mut actions);
            let batch = self.batch();
            if !batch.is_empty() {
                self.in_flight = batch.iter().map(Work::id).collect();
                actions.push(Action::Run(batch));
            }
        }
        assert!(self.waiting() <= self.limits.waiting_max as usize, "queue bound");
        assert!(self.reserved() <= u64::from(self.limits.cache.0), "cache bound");
        actions
    }

    fn reserved(&self) -> u64 {
        self.running.iter().map(|one| u64::from(one.room)).sum()
    }

    fn arrive(&mut self, request: Request, actions: &mut Vec<Action>) {
        let waiting = u32::try_from(self.waiting()).expect("bounded by waiting_max");
        let id = request.id;
        if let Err(error) = self.limits.room(&request) {
            actions.push(Action::Refuse(id, error));
        } else if waiting >= self.limits.waiting_max {
            actions.push(Action::Refuse(id, AdmissionError::Busy { waiting }));
        } else {
            let queue = self.queues.entry(request.principal.clone()).or_default();
            queue.waiting.push_back(request);
        }
    }

    fn cancel(&mut self, id: SequenceId, actions: &mut Vec<Action>) {
        for queue in self.queues.values_mut() {
            queue.waiting.retain(|request| request.id != id);
        }
        if self.in_flight.contains(&id) {
            self.cancelled.push(id);
        } else {
            self.close(id, actions);
        }
    }

    fn close(&mut self, id: SequenceId, actions: &mut Vec<Action>) {
        if let Some(at) = self.running.iter().position(|one| one.id == id) {
            self.running.remove(at);
            actions.push(Action::Close(id));
        }
    }

    fn ran(&mut self, ran: &[Ran], actions: &mut Vec<Action>) {
        self.in_flight.clear();
        let mut ended: Vec<SequenceId> = std::mem::take(&mut self.cancelled);
        ended.extend(ran.iter().filter(|one| one.is_ended).map(|one| one.id));
        ended.extend(self.running.iter().filter(|one| one.drawn >= one.max_tokens).map(|o| o.id));
        for id in ended {
            self.close(id, actions);
        }
    }

    /// Lets waiting sequences run while there is room.
    fn admit(&mut self, actions: &mut Vec<Action>) {
        while self.running.len() < self.limits.running_max as usize {
            let Some(principal) = self.next_principal() else { break };
            let free = u64::from(self.limits.cache.0) - self.reserved();
            let queue = self.queues.get_mut(&principal).expect("it was just chosen");
            let first = queue.waiting.front().expect("only those that wait are chosen");
            let room = self.limits.room(first).expect("checked on arrival").0;
            if u64::from(room) > free {
                break;
            }
            let request = queue.waiting.pop_front().expect("it is there");
            self.turns += 1;
            queue.last_turn = self.turns;
            actions.push(Action::Open(request.id, TokenCount(room)));
            self.running.push_back(Running {
                id: request.id,
                principal,
                prompt: request.prompt.0,
                done: 0,
                drawn: 0,
                max_tokens: request.max_tokens.0,
                room,
            });
        }
        // A principal that neither waits nor runs is forgotten, so that the map stays bounded.
        let running = &self.running;
        self.queues.retain(|principal, queue| {
            !queue.waiting.is_empty() || running.iter().any(|one| one.principal == *principal)
        });
    }

    /// Whose turn it is among those that wait.
    fn next_principal(&self) -> Option<Principal> {
        let used = |principal: &Principal| -> u64 {
            let own = self.running.iter().filter(|one| one.principal == *principal);
            own.map(|one| u64::from(one.room)).sum()
        };
        let waiting = self.queues.iter().filter(|(_who, queue)| !queue.waiting.is_empty());
        let next = waiting.min_by_key(|(who, queue)| (used(who), queue.last_turn));
        next.map(|(who, _queue)| who.clone())
    }

    /// The next batch: one token for each answer, prompts in the room of `prefill_max`.
    fn batch(&mut self) -> Vec<Work> {
        let mut room = self.limits.prefill_max.0;
        let mut batch = Vec::new();
        for one in &mut self.running {
            if one.done == one.prompt {
                one.drawn += 1;
                batch.push(Work::Decode { id: one.id });
            } else if room > 0 {
                let (from, to) = (one.done, one.prompt.min(one.done + room));
                room -= to - from;
                one.done = to;
                let is_last = to == one.prompt;
                one.drawn += u32::from(is_last);
                batch.push(Work::Prefill { id: one.id, from, to, is_last });
            }
        }
        // Whoever had the first share of the room has the last next time.
        self.running.rotate_left(usize::from(!self.running.is_empty()));
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        context: TokenCount(100),
        cache: TokenCount(160),
        page: TokenCount(16),
        running_max: 3,
        waiting_max: 4,
        prefill_max: TokenCount(8),
    };

    fn request(id: u64, who: &str, prompt: u32, max_tokens: u32) -> Event {
        Event::Arrived(Request {
            id: SequenceId(id),
            principal: who.parse().expect("a name"),
            prompt: TokenCount(prompt),
            max_tokens: TokenCount(max_tokens),
        })
    }

    #[test]
    fn a_prompt_is_cut_and_the_answer_ends_at_its_length() {
        let mut scheduler = Scheduler::new(LIMITS);
        let id = SequenceId(1);
        assert_eq!(
            scheduler.step(request(1, "a", 10, 2)),
            [
                Action::Open(id, TokenCount(16)),
                Action::Run(vec![Work::Prefill { id, from: 0, to: 8, is_last: false }])
            ]
        );
        let ran = || Event::Ran(Vec::new());
        let last = Work::Prefill { id, from: 8, to: 10, is_last: true };
        assert_eq!(scheduler.step(ran()), [Action::Run(vec![last])]);
        assert_eq!(scheduler.step(ran()), [Action::Run(vec![Work::Decode { id }])]);
        assert_eq!(scheduler.step(ran()), [Action::Close(id)]);
        assert_eq!(scheduler.running(), 0);
    }

    #[test]
    fn what_cannot_finish_is_refused_with_the_arithmetic() {
        let mut scheduler = Scheduler::new(LIMITS);
        let refused = |actions: &[Action]| match actions {
            [Action::Refuse(_, error)] => error.to_string(),
            other => panic!("not refused: {other:?}"),
        };
        let message = refused(&scheduler.step(request(1, "a", 90, 11)));
        assert!(message.contains("90 tokens") && message.contains("101 tokens"), "{message}");
        assert!(refused(&scheduler.step(request(2, "a", u32::MAX, u32::MAX))).contains("100"));
        assert!(refused(&scheduler.step(request(3, "a", 0, 1))).contains("at least one"));
        for id in 4..10 {
            scheduler.step(request(id, "a", 60, 20));
            scheduler.step(Event::Ran(Vec::new()));
        }
        // Two run (80 tokens of cache each), four wait.
        assert_eq!((scheduler.running(), scheduler.waiting()), (2, 4));
        let actions = scheduler.step(request(10, "b", 1, 1));
        let busy = AdmissionError::Busy { waiting: 4 };
        assert_eq!(actions, [Action::Refuse(SequenceId(10), busy)]);
    }

    #[test]
    fn principals_take_turns() {
        let mut scheduler = Scheduler::new(Limits { running_max: 1, ..LIMITS });
        let mut opened = Vec::new();
        let mut note = |actions: Vec<Action>| {
            opened.extend(actions.into_iter().filter_map(|action| match action {
                Action::Open(id, _room) => Some(id.0),
                _ => None,
            }));
        };
        for (id, who) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
            note(scheduler.step(request(id, who, 1, 1)));
        }
        for _batch in 0..4 {
            note(scheduler.step(Event::Ran(Vec::new())));
        }
        assert_eq!(opened, [1, 4, 2, 3]);
    }

    #[test]
    fn the_cancelled_are_closed_when_nothing_uses_them() {
        let mut scheduler = Scheduler::new(LIMITS);
        scheduler.step(request(1, "a", 1, 9));
        assert_eq!(scheduler.step(Event::Cancelled(SequenceId(1))), []);
        assert_eq!(scheduler.step(Event::Ran(Vec::new())), [Action::Close(SequenceId(1))]);
        assert_eq!(scheduler.step(Event::Cancelled(SequenceId(1))), []);
    }

    proptest! {
        #[test]
        fn everything_admitted_finishes(
            asked in prop::collection::vec((0u8..3, 1u32..60, 1u32..60, any::<bool>()), 1..40),
        ) {
            let mut scheduler = Scheduler::new(LIMITS);
            let (mut open, mut refused, mut closed) = (Vec::new(), 0, 0);
            let mut busy = false;
            let mut note = |actions: Vec<Action>, busy: &mut bool| {
                for action in actions {
                    match action {
                        Action::Open(id, _room) => open.push(id),
                        Action::Refuse(..) => refused += 1,
                        Action::Close(id) => {
                            closed += 1;
                            assert!(open.contains(&id), "only the open are closed");
                        }
                        Action::Run(work) => {
                            assert!(!*busy && !work.is_empty(), "one batch at a time");
                            *busy = true;
                        }
                    }
                }
            };
            for (id, (who, prompt, max_tokens, run)) in (0u64..).zip(asked.iter()) {
                let actions = scheduler.step(request(id, &format!("p{who}"), *prompt, *max_tokens));
                note(actions, &mut busy);
                if *run && std::mem::take(&mut busy) {
                    note(scheduler.step(Event::Ran(Vec::new())), &mut busy);
                }
            }
            for _batch in 0..10_000 {
                if !std::mem::take(&mut busy) {
                    break;
                }
                note(scheduler.step(Event::Ran(Vec::new())), &mut busy);
            }
            prop_assert_eq!((scheduler.running(), scheduler.waiting()), (0, 0));
            prop_assert_eq!(refused + closed, asked.len());
        }
    }
}
