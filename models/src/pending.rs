//! A batch on its way through a device.

use std::{fmt, time::Duration};

use crate::{Error, Moments};

/// Something that waits for the device.
pub(crate) type Step<T> = Box<dyn FnOnce() -> Result<T, Error> + Send>;

/// What is left to do of a batch after [`Encoder::begin`](crate::Encoder::begin): to wait until the
/// device has computed, and to read the answer back. On any thread: meanwhile the one that owns the
/// device can begin the next batch.
pub struct Pending {
    upload: Duration,
    computed: Option<Step<()>>,
    moments: Step<Moments>,
}

impl Pending {
    /// `upload` is the time that handing over the pixels took. `computed` returns when the device has
    /// computed, `moments` when the answer is there.
    pub fn new(
        upload: Duration,
        computed: impl FnOnce() -> Result<(), Error> + Send + 'static,
        moments: impl FnOnce() -> Result<Moments, Error> + Send + 'static,
    ) -> Self {
        Self {
            upload,
            computed: Some(Box::new(computed)),
            moments: Box::new(moments),
        }
    }

    /// How long the calling thread took to hand the pixels over.
    pub fn upload(&self) -> Duration {
        self.upload
    }

    /// Returns when the device has computed.
    ///
    /// # Errors
    /// [`Error::Device`] where it failed.
    pub fn computed(&mut self) -> Result<(), Error> {
        self.computed.take().map_or(Ok(()), |wait| wait())
    }

    /// Waits for the answer, as [`Encoder::encode`](crate::Encoder::encode) gives it.
    ///
    /// # Errors
    /// [`Error::Device`] where the device failed.
    pub fn moments(mut self) -> Result<Moments, Error> {
        self.computed()?;
        (self.moments)()
    }
}

/// Of a device that is done when it returns.
impl From<Moments> for Pending {
    fn from(moments: Moments) -> Self {
        Self::new(Duration::ZERO, || Ok(()), || Ok(moments))
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}
