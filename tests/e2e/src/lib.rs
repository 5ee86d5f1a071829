//! Nothing: the tests of Loci on a whole Kubernetes are beside this, in `tests/it`. `make e2e` runs them.
