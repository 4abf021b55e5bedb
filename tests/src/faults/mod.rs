//! Every point at which an execution of a plugin can fail, made to fail: what is left then, and after the DEL that a
//! runtime makes.
//!
//! | layer | what it is |
//! | --- | --- |
//! | [`Point`] | the system calls that can fail, and with what |
//! | [`Tracer`] | executions under `ptrace(2)`: the n-th point of all threads and children fails, is refused, or kills |
//! | [`Scenario`] | plugins, their configurations, and a node for them |
//! | [`Ward`] | a node on which one pod comes to grief beside another: one round is one fault |
//! | [`Campaign`] | all rounds of a scenario, and what they came to |

mod campaign;
mod points;
mod refusal;
mod scenario;
mod tracer;
mod ward;

pub use campaign::{Campaign, Tally};
pub use points::Point;
pub use scenario::{Inside, SCENARIOS, Scenario};
pub use tracer::{Arrival, Fault, Kind, Tracer};
pub use ward::{Round, Verb, Ward};
