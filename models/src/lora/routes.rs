use burn::tensor::Tensor;

use super::Adapter;
use crate::kernels::lora::{Stretch, add_deltas};

/// Which rows of a call pass which adapter; the others pass none.
#[derive(Debug, Default)]
pub(crate) struct Routes<'a>(Vec<Route<'a>>);

#[derive(Debug)]
struct Route<'a> {
    first: usize,
    rows: usize,
    adapter: &'a Adapter,
}

impl<'a> Routes<'a> {
    /// For sequences of which `adapters[i]` has `new[i]` rows, one after another.
    pub fn new(adapters: &[Option<&'a Adapter>], new: &[usize]) -> Self {
        let mut routes: Vec<Route<'a>> = Vec::new();
        let mut first = 0;
        for (adapter, &rows) in adapters.iter().zip(new) {
            if let Some(adapter) = *adapter
                && rows > 0
            {
                let last = routes.last_mut().filter(|last| {
                    std::ptr::eq(last.adapter, adapter) && last.first + last.rows == first
                });
                match last {
                    Some(last) => last.rows += rows,
                    None => routes.push(Route {
                        first,
                        rows,
                        adapter,
                    }),
                }
            }
            first += rows;
        }
        Self(routes)
    }

    /// `y`, the product of `x` with the linear layer in `place`, with what the adapters add to it.
    pub fn add(&self, place: usize, y: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let stretches = self.0.iter().filter_map(|route| {
            Some(Stretch {
                first: route.first,
                rows: route.rows,
                delta: route.adapter.delta(place)?.clone(),
            })
        });
        let stretches: Vec<Stretch> = stretches.collect();
        if stretches.is_empty() {
            return y;
        }
        add_deltas(y, x, stretches.into())
    }
}
