//! What becomes of places whose sample is bad.

use bytes::Bytes;

use super::{Encoded, Filled, Job, MAX_SUBSTITUTES, Place, Run};
use crate::{
    bad::Entry,
    batch::Tensor,
    config::BadSamples,
    error::Error,
    plan::{Position, Size, Transform},
    stats::Track,
};

impl Run {
    /// The planned sample, or the one that replaces it where the index knew it to be bad.
    pub(super) fn first_choice(&self, job: &Job, position: Position) -> Result<Place, Error> {
        if let Some(place) = self.place(job, position, position.sample, 0) {
            return Ok(place);
        }
        if self.policy == BadSamples::Skip {
            return Ok(self.empty(job, position));
        }
        let reason = self
            .unusable
            .get(&position.sample)
            .map_or("bad", String::as_str);
        self.bad(job, position.sample, reason)?;
        self.next_choice(job, position, 0)
            .ok_or_else(|| self.exhausted(position, reason))
    }

    /// A place whose sample is not worth sending: reading it says why.
    fn empty(&self, job: &Job, position: Position) -> Place {
        let size = job.planned.size;
        Place {
            position,
            sample: position.sample,
            transform: Transform {
                source: self
                    .dataset
                    .size(position.sample)
                    .unwrap_or(Size::new(0, 0)),
                resize: size.with_frames(1),
                crop_x: 0,
                crop_y: 0,
                flip: false,
            },
            tries: 0,
            valid: false,
        }
    }

    /// The first sample after `tries` others that is not known to be bad.
    fn next_choice(&self, job: &Job, position: Position, tries: u32) -> Option<Place> {
        self.plan
            .following(job.epoch, job.planned.bucket, position.place)
            .zip(1..=MAX_SUBSTITUTES)
            .skip(tries as usize)
            .find_map(|(sample, tries)| self.place(job, position, sample, tries))
    }

    /// Fills the place of a bad sample, as the policy says.
    pub(super) async fn replace(
        &self,
        job: &Job,
        place: Place,
        reason: String,
        track: &Track,
    ) -> Filled {
        if self.policy != BadSamples::Skip {
            return self.substitute(job, place, reason, track).await;
        }
        self.bad(job, place.sample, &reason)?;
        self.recorder.skipped();
        let bytes = self.model.tensor_bytes(job.planned.size).unwrap_or(0);
        let zeros = Tensor {
            buffer: Bytes::from(vec![0; bytes]),
            offset: 0,
        };
        let place = Place {
            valid: false,
            ..place
        };
        let empty = Encoded {
            tensor: zeros,
            parts: Vec::new(),
            clip: None,
        };
        Ok((place, empty))
    }

    /// Tries the samples that follow in the bucket's epoch order: the same ones whenever and
    /// wherever this place is filled.
    async fn substitute(
        &self,
        job: &Job,
        mut place: Place,
        mut reason: String,
        track: &Track,
    ) -> Filled {
        let (position, first) = (place.position, reason.clone());
        loop {
            self.bad(job, place.sample, &reason)?;
            place = self
                .next_choice(job, position, place.tries)
                .ok_or_else(|| self.exhausted(position, &first))?;
            let tensors = self.attempt(job, &[place], track).await;
            let mut tensors = tensors.map_err(|error| self.call_failed(job, &[place], error))?;
            match tensors.pop() {
                Some(Ok(tensor)) => return Ok((place, tensor)),
                Some(Err(next)) => reason = next,
                None => return Err(Error::Internal("an attempt without a result".into())),
            }
        }
    }

    /// Counts a bad sample and writes it down; an error where the policy says so.
    fn bad(&self, job: &Job, id: u64, reason: &str) -> Result<(), Error> {
        let key = self.dataset.key(id);
        if self.recorder.bad(id, &key, reason)
            && let Some(report) = &self.report
        {
            let (epoch, step) = (job.epoch, job.step);
            let (source, at) = self.dataset.locate(id);
            report.add(&Entry {
                id,
                key: &key,
                source: Some(source.name()).filter(|name| !name.is_empty()),
                shard: source.shard(at).map(|shard| &*shard.path),
                reason,
                epoch,
                step,
            });
        }
        match self.policy {
            BadSamples::Substitute | BadSamples::Skip => Ok(()),
            BadSamples::Fail => Err(Error::BadSample {
                key: key.into_owned(),
                reason: reason.to_owned(),
            }),
        }
    }

    fn exhausted(&self, position: Position, reason: &str) -> Error {
        Error::NoSubstitute {
            key: self.dataset.key(position.sample).into_owned(),
            reason: reason.to_owned(),
            tries: MAX_SUBSTITUTES,
        }
    }
}
