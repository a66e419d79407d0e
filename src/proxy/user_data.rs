//! Keeps each user's data of items in step on all pods.

mod carry;
mod ledger;
mod round;
#[cfg(test)]
mod tests;
