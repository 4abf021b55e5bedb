//! Who gets which address: pure range allocators and durable lease stores, compatible with host-local's.
