//! Malformed and hostile requests: none reaches a pod in a second reading, and none harms a client beside it.

mod attack;
mod floods;
mod frames;
mod http1;
mod strict;

use attack::{Attack, Outcome, Then, run_all};
