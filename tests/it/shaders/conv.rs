//! The convolution's three passes in a browser, as planned for the limits that every WebGPU device
//! has, against f64.

use polyview::conv::testing::web_plan;
use polyview::conv::{ConvPass, ConvShape};
use polyview::kernels::DeviceLimits;
use polyview::kernels::web::WebPlan;
use polyview::shaders::shader_texts;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::common::browser::run_script;
use crate::common::conv::Case;

const fn shape(
    [batch, in_channels, out_channels]: [usize; 3],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
) -> ConvShape {
    ConvShape { batch, in_channels, out_channels, input, kernel, stride, padding }
}

const SHAPES: [ConvShape; 9] = [
    // Sizes that no tile divides.
    shape([2, 5, 7], [3, 7, 9], [3, 3, 3], [1; 3], [1; 3]),
    shape([1, 21, 35], [5, 11, 13], [3, 3, 3], [2; 3], [1; 3]),
    // The stems: few channels.
    shape([2, 3, 13], [2, 17, 19], [1, 7, 7], [1, 2, 2], [0, 3, 3]),
    shape([1, 3, 10], [4, 9, 12], [3, 7, 7], [1, 2, 2], [1, 3, 3]),
    // The parts of a (2+1)D convolution; planes that are multiples of 4.
    shape([2, 9, 20], [3, 8, 8], [1, 3, 3], [1; 3], [0, 1, 1]),
    shape([2, 12, 6], [6, 4, 8], [3, 1, 1], [1; 3], [1, 0, 0]),
    // A shortcut: no tap reads most positions of x.
    shape([1, 8, 10], [4, 6, 7], [1; 3], [2; 3], [0; 3]),
    // Few results with long sums.
    shape([1, 72, 65], [4, 4, 4], [3, 3, 3], [1; 3], [1; 3]),
    // Enough positions for the weight gradient's sums to be split.
    shape([3, 6, 10], [4, 13, 12], [1, 3, 3], [1; 3], [0, 1, 1]),
];

/// One pass of a case.
struct Run<'a> {
    case: &'a Case,
    pass: ConvPass,
    plan: WebPlan,
}

impl Run<'_> {
    fn task(&self) -> Value {
        let Case { x, w, dy, .. } = self.case;
        let operands = match self.pass {
            ConvPass::Forward => [x, w],
            ConvPass::InputGradient => [dy, w],
            ConvPass::WeightGradient => [x, dy],
        };
        let written = self.case.exact[self.pass as usize].len();
        json!({ "plan": self.plan, "operands": operands, "written": written })
    }
}

#[test]
fn shaders_of_the_convolution_agree_with_f64_in_a_browser() {
    let limits = DeviceLimits::WEBGPU;
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let cases = SHAPES.map(|shape| Case::new(shape, &mut rng));
    let passes = cases.iter().flat_map(|case| ConvPass::ALL.map(|pass| (case, pass)));
    let plan = |case: &Case, pass| web_plan(&limits, pass, &case.shape).unwrap();
    let runs: Vec<_> =
        passes.map(|(case, pass)| Run { case, pass, plan: plan(case, pass) }).collect();
    let sum = shader_texts().into_iter().find(|text| text.file == "conv_sum.wgsl").unwrap().source;
    for pass in ConvPass::ALL {
        let mut plans = runs.iter().filter(|run| run.pass == pass).map(|run| &run.plan);
        let split = |plan: &WebPlan| plan.shaders.contains(&sum);
        assert!(plans.clone().any(split) && !plans.all(split), "{pass:?}: split sums and others");
    }
    let tasks: Vec<_> = runs.iter().map(Run::task).collect();
    let Some(answer) = run_script(include_str!("plan.js"), &json!({ "cases": tasks })) else {
        return;
    };
    // JSON has null in place of NaN.
    let results: Vec<Vec<Option<f32>>> = serde_json::from_value(answer).unwrap();
    assert_eq!(results.len(), runs.len());
    let mut largest = [0.0f64; 3];
    for (Run { case, pass, .. }, result) in runs.iter().zip(results) {
        let got: Vec<f32> = result.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect();
        let error = case.worst(*pass as usize, &got);
        assert!(error <= 1.0, "{pass:?} of {:?}: {error}× the bound", case.shape);
        largest[*pass as usize] = largest[*pass as usize].max(error);
    }
    println!("{} plans, largest errors over 1e-5·√K: {largest:.4?}", runs.len());
}
