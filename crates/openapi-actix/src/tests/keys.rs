//! Every key changes the output.
