//! A loaded generation at work: its models, its conversations and its jobs.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use cloister_domain::{ByteCount, Principal, SequenceId, TokenCount, TokenId};
use cloister_model::{Decoder, Encoder, PAGE_TOKENS};
use cloister_schedule::{
    Action, AdmissionError, Chunk, Event, Forward as _, Limits, Ran, Request, Scheduler, Wanted,
    Work,
};

use crate::{
    EngineError,
    answer::{Answer, Asker},
    job::{EmbedJob, Job, ScoreJob, Window},
    load::Loaded,
    shared::Front,
};

/// Prompt tokens in one batch: a pause of tens of milliseconds for the others on a small model.
const PREFILL_MAX: TokenCount = TokenCount(256);
/// Conversations that wait, for each that may run.
const WAITING_PER_RUNNING: u32 = 8;
/// Embedding and scoring requests that wait; the other daemons have one each at a time.
const JOBS_MAX: usize = 64;

/// See the module.
pub(crate) struct Serving {
    pub(crate) front: Arc<Front>,
    decoder: Decoder,
    encoder: Option<Encoder>,
    scheduler: Scheduler,
    answers: BTreeMap<SequenceId, Answer>,
    jobs: VecDeque<Job>,
    pending: Vec<Work>,
    next_sequence: u64,
}

impl Serving {
    pub(crate) fn new(loaded: Loaded, sequences_max: u32) -> Self {
        let facts = loaded.decoder.facts();
        let page = TokenCount(u32::try_from(PAGE_TOKENS).expect("a page is small"));
        // One context of the cache is kept for scoring, which happens beside conversations.
        let reserved = facts.context.0.div_ceil(page.0).saturating_mul(page.0);
        let limits = Limits {
            context: facts.context,
            cache: TokenCount(facts.cache.0.saturating_sub(reserved)),
            page,
            running_max: sequences_max,
            waiting_max: sequences_max.saturating_mul(WAITING_PER_RUNNING),
            prefill_max: PREFILL_MAX,
        };
        Self {
            front: Arc::new(loaded.front),
            decoder: loaded.decoder,
            encoder: loaded.encoder,
            scheduler: Scheduler::new(limits),
            answers: BTreeMap::new(),
            jobs: VecDeque::new(),
            pending: Vec::new(),
            next_sequence: 0,
        }
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.answers.is_empty() && self.jobs.is_empty() && self.pending.is_empty()
    }

    /// Conversations that run or wait.
    pub(crate) fn conversations(&self) -> usize {
        self.answers.len()
    }

    fn new_sequence(&mut self) -> SequenceId {
        self.next_sequence += 1;
        SequenceId(self.next_sequence)
    }

    /// Takes a conversation, or refuses it.
    pub(crate) fn chat(&mut self, principal: Principal, max_tokens: TokenCount, answer: Answer) {
        let id = self.new_sequence();
        let prompt = TokenCount(u32::try_from(answer.prompt.len()).unwrap_or(u32::MAX));
        self.answers.insert(id, answer);
        self.happened(Event::Arrived(Request { id, principal, prompt, max_tokens }));
    }

    /// Takes texts to embed, or refuses them.
    pub(crate) fn embed(&mut self, asker: Asker, windows: Vec<Window>, texts: usize) {
        self.add_job(Job::Embed(EmbedJob::new(asker, windows, texts)));
    }

    /// Takes a text to score, or refuses it.
    pub(crate) fn score(&mut self, asker: Asker, tokens: Vec<TokenId>, bytes: ByteCount) {
        let framed = self.front.tokenizer.frame().0.first().copied();
        let start = framed.or(self.decoder.facts().begin);
        let sequence = self.new_sequence();
        self.add_job(Job::Score(ScoreJob::new(asker, sequence, start, tokens, bytes)));
    }

    fn add_job(&mut self, job: Job) {
        if self.jobs.len() < JOBS_MAX {
            return self.jobs.push_back(job);
        }
        let waiting = u32::try_from(self.jobs.len()).expect("bounded");
        let (Job::Embed(EmbedJob { asker, .. }) | Job::Score(ScoreJob { asker, .. })) = &job;
        asker.fail(&AdmissionError::Busy { waiting }.into());
    }

    /// Runs one batch and one small part of a job, if there are any.
    pub(crate) fn step(&mut self) {
        let gone: Vec<SequenceId> = self
            .answers
            .iter()
            .filter(|(_id, answer)| answer.asker.is_gone())
            .map(|(id, _answer)| *id)
            .collect();
        for id in gone {
            self.happened(Event::Cancelled(id));
        }
        if !self.pending.is_empty() {
            let ran = self.run();
            self.happened(Event::Ran(ran));
        }
        if let Some(job) = self.jobs.front_mut()
            && job.step(&mut self.decoder, self.encoder.as_ref())
        {
            self.jobs.pop_front();
        }
    }

    /// Tells the scheduler and does what it says.
    fn happened(&mut self, event: Event) {
        let cancelled = if let Event::Cancelled(id) = event { Some(id) } else { None };
        let mut failed = Vec::new();
        let mut actions: VecDeque<Action> = self.scheduler.step(event).into();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Refuse(id, error) => {
                    if let Some(answer) = self.answers.remove(&id) {
                        answer.asker.fail(&error.into());
                    }
                }
                Action::Open(id, capacity) => {
                    if let Err(error) = self.open(id, capacity) {
                        error.log("a conversation was not begun");
                        failed.push(id);
                        actions.extend(self.scheduler.step(Event::Cancelled(id)));
                    }
                }
                Action::Close(id) => {
                    self.decoder.close(id);
                    self.answers.remove(&id);
                }
                Action::Run(mut work) => {
                    work.retain(|work| !failed.contains(&sequence(work)));
                    if work.is_empty() {
                        actions.extend(self.scheduler.step(Event::Ran(Vec::new())));
                    }
                    self.pending = work;
                }
            }
        }
        // One that was still waiting has nothing to close; one in flight is closed after its batch.
        if let Some(id) = cancelled
            && !self.pending.iter().any(|work| sequence(work) == id)
        {
            self.answers.remove(&id);
        }
    }

    fn open(&mut self, id: SequenceId, capacity: TokenCount) -> Result<(), EngineError> {
        // The last page may reach past the model's context.
        let capacity = TokenCount(capacity.0.min(self.front.context.0));
        let answer = self.answers.get_mut(&id).expect("it arrived and was not refused");
        match self.decoder.open(id, capacity).map_err(EngineError::Model) {
            Ok(()) => {
                answer.start();
                Ok(())
            }
            Err(error) => {
                answer.asker.fail(&error);
                Err(error)
            }
        }
    }

    /// Runs the pending batch and draws a token for each sequence that has its logits.
    fn run(&mut self) -> Vec<Ran> {
        let batch = std::mem::take(&mut self.pending);
        let chunk = |work: &Work| {
            let answer = &self.answers[&sequence(work)];
            let (tokens, wanted) = match *work {
                Work::Prefill { from, to, is_last, .. } => {
                    let wanted = if is_last { Wanted::Last } else { Wanted::Nothing };
                    (&answer.prompt[from as usize..to as usize], wanted)
                }
                Work::Decode { .. } => (std::slice::from_ref(&answer.last), Wanted::Last),
            };
            Chunk { sequence: sequence(work), tokens, wanted }
        };
        let chunks: Vec<Chunk<'_>> = batch.iter().map(chunk).collect();
        let draws = |chunk: &&Chunk<'_>| chunk.wanted == Wanted::Last;
        let drawing: Vec<SequenceId> = chunks.iter().filter(draws).map(|c| c.sequence).collect();
        let logits = match self.decoder.forward(&chunks).map_err(EngineError::Model) {
            Ok(logits) => logits,
            Err(error) => {
                error.log("a batch failed; its answers were ended");
                let failed = batch.iter().map(sequence);
                return failed
                    .map(|id| {
                        self.answers[&id].asker.fail(&error);
                        Ran { id, is_ended: true }
                    })
                    .collect();
            }
        };
        let drawn = drawing.into_iter().zip(logits.rows()).map(|(id, row)| {
            let answer = self.answers.get_mut(&id).expect("it is in the batch");
            Ran { id, is_ended: answer.draw(&self.front, row) }
        });
        drawn.collect()
    }
}

const fn sequence(work: &Work) -> SequenceId {
    match work {
        Work::Prefill { id, .. } | Work::Decode { id } => *id,
    }
}
