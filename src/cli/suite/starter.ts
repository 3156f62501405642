/** What `osnet-verify suite --init` writes. */
export const STARTER = `# yaml-language-server: $schema=https://unpkg.com/osnet-convert/schemas/osnet-suite-1.schema.json
# A suite of osnet-verify: every model is held against every candidate, in every backend.
#   osnet-verify suite parity.yaml --report-dir parity/
name: parity

# Of every entry, unless its candidate says otherwise.
defaults:
  tolerance: auto        # each layer within its rounding bound; or a number such as 1e-4
  input: seed:0          # or an .npy of float32 [N, 3, H, W]
  batch: 2
  # size: 256x128        # of seeded images; what a model fixes goes before

models:
  # Weights of your own; paths are relative to this file.
  # market: { checkpoint: weights/osnet_x1_0_market.pth }
  # Seeded weights of an architecture: no checkpoint needed to verify a conversion.
  seeded: { arch: osnet_x0_25, seed: 1 }

candidates:
  # Conversions are made in memory, and nothing is written.
  onnx: { convert: onnx, options: { opset: 17 } }
  graph: { convert: tfjs-graph, backends: [tfjs-wasm] }
  # layers: { convert: tfjs-layers, backends: [tfjs-wasm, tfjs-cpu] }
  # A file that you ship: {model} stands for the model's name.
  # shipped: { file: "dist/{model}.onnx", models: [market] }

# All models × candidates × backends, unless narrowed.
# matrix:
#   exclude:
#     - { model: market, backend: tfjs-cpu }
#   include:
#     - { model: market, candidate: onnx, tolerance: 1e-4 }
`;
