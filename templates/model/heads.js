// The layers after the backbone: the views are merged, and each task's head classifies.

const softmax = (values, temperature = 1) => {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp((value - most) / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
};

// Computes x·W + b; `values` returns the values of a span of weights.
function linear(x, { weight, bias, outputs }, values) {
  const y = bias ? Array.from(values(bias)) : new Array(outputs).fill(0);
  const w = values(weight);
  x.forEach((value, i) => {
    for (let k = 0; k < outputs; k += 1) y[k] += value * w[i * outputs + k];
  });
  return y;
}

const twoLayers = (x, [first, second], values) =>
  linear(linear(x, first, values).map((value) => Math.max(value, 0)), second, values);

// Returns { tasks, shares }, each task's probabilities and each view's weight, from the views' features.
function classify({ network, tasks }, features, values) {
  const scores = features.map((feature) =>
    (network.attention ? twoLayers(feature, network.attention, values)[0] : 0));
  const shares = softmax(scores);
  const merged = features[0].map((_, i) =>
    features.reduce((sum, feature, view) => sum + shares[view] * feature[i], 0));
  const inputs = [merged, ...network.unknown.map((span) => Array.from(values(span)))].flat();
  const logits = network.heads.map((head) => twoLayers(inputs, head, values));
  return { tasks: logits.map((row, k) => softmax(row, tasks[k].temperature)), shares };
}
