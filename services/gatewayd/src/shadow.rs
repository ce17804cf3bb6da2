//! A shadow: a question that was answered is put to the release on trial too, after the caller has its
//! answer. What the shadow says is compared with what the caller was told, and discarded.

use std::sync::Arc;

use cloister_daemon::clock::Stopwatch;
use cloister_domain::GenerationId;
use cloister_wire::trial::Tally;

use crate::{
    chat::Work,
    engine::Hold,
    http_problem::HttpProblem,
    question::{self, Found, Question},
    request::ChatRequest,
    routes::Caller,
    shared::Shared,
    trial::{Part, ShadowPlace},
};

/// One question, put a second time.
pub(crate) struct Shadow {
    shared: Arc<Shared>,
    caller: Caller,
    request: ChatRequest,
    trial: u64,
    generation: GenerationId,
    /// What the caller was told, and what that took.
    told: String,
    tally: Tally,
    place: ShadowPlace,
}

impl Shadow {
    /// Puts the question of `work` to the release on trial, if the trial is a shadow that covers it. One at
    /// a time, so that the people who ask hardly notice; what comes meanwhile is passed over.
    pub(crate) fn begin(work: &Work, part: &Part, told: String, tally: Tally) {
        let (Some(generation), shared) = (part.shadow(), &work.asked.shared) else { return };
        let trial = part.trial();
        let Some(place) = shared.trials.shadow_place() else {
            shared.trials.count(trial, |report| report.passed_over += 1);
            return;
        };
        let shadow = Self {
            shared: Arc::clone(shared),
            caller: work.asked.caller.clone(),
            request: work.request.clone(),
            trial,
            generation,
            told,
            tally,
            place,
        };
        work.runtime.spawn_blocking(move || shadow.run());
    }

    fn run(self) {
        let asked = self.ask();
        let Self { shared, trial, told, tally, place, .. } = self;
        // Who finds this one counted may ask the next.
        drop(place);
        shared.trials.count(trial, |report| match asked {
            Ok(Some((said, of_candidate))) => {
                report.candidate = report.candidate.with(of_candidate);
                report.active = report.active.with(tally);
                report.same += u64::from(said == told);
            }
            Err(problem) if problem.is_fault() => {
                report.candidate.failed += 1;
                report.active = report.active.with(tally);
            }
            // Its engine holds something else by now, or has no place.
            Ok(None) | Err(_) => report.passed_over += 1,
        });
    }

    /// What the release on trial answers, and what that took.
    fn ask(&self) -> Result<Option<(String, Tally)>, HttpProblem> {
        let clock = Stopwatch::start();
        let hold = Hold::default();
        let question = Question {
            shared: &self.shared,
            caller: &self.caller,
            request: &self.request,
            hold: &hold,
        };
        let taken = match question.find(self.generation, &mut None)? {
            Some(Found::Taken(taken)) => taken,
            // It is silent where the active release spoke: an answer that differs.
            Some(Found::NoEvidence(_)) => {
                return Ok(Some((String::new(), Tally { answered: 1, ..Tally::default() })));
            }
            // Its engine died of the question.
            None if hold.forgive(0) => return Err(HttpProblem::internal()),
            None => return Ok(None),
        };
        let mut said = String::new();
        let mut first_piece_microseconds = None;
        let ended = question::hear(&taken.begun, &hold, |text| {
            first_piece_microseconds.get_or_insert_with(|| clock.microseconds());
            said.push_str(text);
            true
        })?;
        Ok(ended.map(|ended| {
            let answer_microseconds = clock.microseconds();
            let tally = Tally {
                answered: 1,
                tokens: ended.tokens.0.into(),
                first_piece_microseconds: first_piece_microseconds.unwrap_or(answer_microseconds),
                answer_microseconds,
                ..Tally::default()
            };
            (said, tally)
        }))
    }
}
