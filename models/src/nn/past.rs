//! What a network keeps of a clip between its chunks.

use burn::tensor::{Tensor, backend::Backend};

/// What the layers that look back in time keep of a clip from chunk to chunk, so that chunks give
/// exactly what the whole clip would. One for every clip.
///
/// Layers have no names here: each takes its turn, in the order in which they run, which is the same
/// for every chunk.
#[derive(Debug)]
pub(crate) struct Past<B: Backend> {
    still: bool,
    keeps: bool,
    chunks: usize,
    turns: Vec<Option<Tensor<B, 4>>>,
    turn: usize,
}

impl<B: Backend> Past<B> {
    /// Of a clip of which nothing was seen yet.
    pub(crate) const fn new() -> Self {
        Self::of(false)
    }

    /// For pictures: every frame is a clip of its own, and nothing is kept.
    pub(crate) const fn still() -> Self {
        Self::of(true)
    }

    /// Of a clip that comes in whole: nothing is kept.
    pub(crate) const fn nothing() -> Self {
        let mut past = Self::of(false);
        past.keeps = false;
        past
    }

    const fn of(still: bool) -> Self {
        Self {
            still,
            keeps: !still,
            chunks: 0,
            turns: Vec::new(),
            turn: 0,
        }
    }

    /// To be called before each chunk goes through the network.
    pub(crate) const fn next_chunk(&mut self) {
        self.chunks += 1;
        self.turn = 0;
    }

    /// Whether every frame is a clip of its own.
    pub(crate) const fn is_still(&self) -> bool {
        self.still
    }

    /// Whether the chunk at hand begins a clip.
    pub(crate) const fn is_first(&self) -> bool {
        self.chunks <= 1
    }

    /// What the layer whose turn it is has kept of the last chunk. Its turn ends with [`Self::keep`].
    pub(crate) fn kept(&mut self) -> Option<Tensor<B, 4>> {
        self.turns.get_mut(self.turn).and_then(Option::take)
    }

    /// Keeps frames for the next chunk. They should have memory of their own.
    pub(crate) fn keep(&mut self, frames: Option<Tensor<B, 4>>) {
        if !self.keeps {
            return;
        }
        match self.turns.get_mut(self.turn) {
            Some(turn) => *turn = frames,
            None => self.turns.push(frames),
        }
        self.turn += 1;
    }
}
