//! How much arithmetic an encode is: counted where it is done, so that no formula can go stale.

use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// What `f` returns, and the floating-point operations that encoders did meanwhile on this thread:
/// two for every product in a convolution, a linear layer or an attention. Norms and activations
/// are not counted, as is usual.
pub fn count<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let result = f();
    (result, COUNT.get() - before)
}

/// Notes a product of as many terms as all of `sides` multiplied.
#[cfg_attr(not(feature = "cpu"), allow(dead_code))]
pub(crate) fn note(sides: &[usize]) {
    let products: u64 = sides.iter().map(|&side| side as u64).product();
    COUNT.set(COUNT.get() + 2 * products);
}
