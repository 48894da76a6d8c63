//! Activations, by the names diffusers gives them.

use burn::tensor::{
    Tensor,
    activation::{gelu, mish, relu, silu},
    backend::Backend,
};
use serde::{Deserialize, Serialize};

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Act {
    /// The identity.
    #[serde(skip)]
    None,
    /// `x * sigmoid(x)`
    #[serde(alias = "swish")]
    Silu,
    /// `max(x, 0)`
    Relu,
    /// With the exact error function.
    Gelu,
    /// `x * tanh(softplus(x))`
    Mish,
}

impl Act {
    pub(crate) fn apply<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::None => x,
            Self::Silu => silu(x),
            Self::Relu => relu(x),
            Self::Gelu => gelu(x),
            Self::Mish => mish(x),
        }
    }
}
