//! For Clusterio's own programs: what a master does for its slaves and controls, and a slave for a
//! master of theirs.

mod handlers;
mod instances;

pub use handlers::handlers;
pub use instances::Instances;
