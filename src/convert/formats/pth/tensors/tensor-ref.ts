/**
 * Tensors as pickles describe them. Source: torch/_utils.py (`_rebuild_*`), torch/_tensor.py (`__reduce_ex__`).
 * Nothing is read or allocated here: an optimizer's tensors cost no more than their description.
 */

import { DTYPES, type DType } from "../../../../tensor.js";
import type { Budget } from "../../budget.js";
import { printable } from "../../refusals.js";
import {
  type InertObject,
  inertObject,
  isGlobal,
  isObject,
  isStorage,
  type PickleValue,
  typeName,
} from "../pickle/values.js";
import { storageElement, torchDType } from "./elements.js";
import { isSize, isSizes, malformed, type TensorProblem, type TensorRef } from "./layout.js";
import { arrayRef, isArray } from "./numpy.js";

/** Tensors with elements in one storage. The dtype is the storage's, or in the newest form an argument. */
const STRIDED: ReadonlyMap<string, { readonly dtype?: number; readonly metadata?: number }> = new Map([
  ["torch._utils._rebuild_tensor", {}],
  ["torch._utils._rebuild_tensor_v2", { metadata: 6 }],
  ["torch._utils._rebuild_tensor_v3", { dtype: 6, metadata: 7 }],
]);

/** A wrapper around a tensor, which is its first argument. */
const WRAPPERS: ReadonlySet<string> = new Set([
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
  "torch.autograd.variable.Variable",
  "torch.nn.parameter.Buffer",
  "torch.nn.parameter.Parameter",
]);

/** A tensor with Python attributes: (function, type, arguments, state). */
const FROM_TYPE = "torch._tensor._rebuild_from_type_v2";

/** Tensors that are not a strided block of numbers, and what to call them. */
const OTHER_TENSORS: ReadonlyMap<string, string> = new Map([
  ["torch._utils._rebuild_device_tensor_from_cpu_tensor", "a tensor of another device"],
  ["torch._utils._rebuild_device_tensor_from_numpy", "a tensor of another device"],
  ["torch._utils._rebuild_meta_tensor_no_storage", "a meta tensor, which has no data"],
  ["torch._utils._rebuild_nested_tensor", "a nested tensor"],
  ["torch._utils._rebuild_qtensor", "a quantized tensor"],
  ["torch._utils._rebuild_sparse_csr_tensor", "a sparse tensor"],
  ["torch._utils._rebuild_sparse_tensor", "a sparse tensor"],
  ["torch._utils._rebuild_wrapper_subclass", "a tensor subclass without data"],
  ["torch._utils._rebuild_xla_tensor", "a tensor of another device"],
]);

/** Whether a value stands for a tensor or array, usable or not. */
export function isTensor(value: PickleValue | undefined): boolean {
  if (!isObject(value)) return false;
  const { path } = value;
  return (
    STRIDED.has(path) || WRAPPERS.has(path) || path === FROM_TYPE || OTHER_TENSORS.has(path) || isArray(value)
  );
}

/** Describes the tensor that a value for which `isTensor` holds stands for, or says why that cannot be used. */
export function tensorRef(value: PickleValue, budget: Budget): TensorRef | TensorProblem {
  const tensor = unwrap(value);
  if (!isObject(tensor)) return malformed(`a tensor made from a value of type ${typeName(tensor)}`);
  const other = OTHER_TENSORS.get(tensor.path);
  if (other !== undefined) return { code: "unsupported", text: other };
  if (isArray(tensor)) return arrayRef(tensor, budget);
  const layout = STRIDED.get(tensor.path);
  if (layout === undefined) return malformed(`a tensor made by ${printable(tensor.path)}`);
  if (layout.metadata !== undefined && hasLazyBits(tensor.args[layout.metadata])) {
    return { code: "unsupported", text: "a tensor with a pending negation or conjugation" };
  }
  return stridedRef(tensor, layout.dtype === undefined ? undefined : tensor.args[layout.dtype]);
}

/** No writer nests wrappers deeper, and a hostile pickle can make them circular. */
const MAX_WRAPPERS = 8;

function unwrap(value: PickleValue): PickleValue {
  let inner = value;
  for (let depth = 0; depth < MAX_WRAPPERS && isObject(inner); depth++) {
    if (WRAPPERS.has(inner.path)) inner = inner.args[0] ?? null;
    else if (inner.path === FROM_TYPE) inner = fromType(inner);
    else break;
  }
  return inner;
}

function fromType({ args: [callee, , args] }: InertObject): PickleValue {
  return isGlobal(callee) && Array.isArray(args) ? inertObject(callee.path, args) : null;
}

function hasLazyBits(metadata: PickleValue | undefined): boolean {
  return metadata instanceof Map && [...metadata.values()].some((bit) => bit === true);
}

function stridedRef({ args }: InertObject, dtypeName: PickleValue | undefined): TensorRef | TensorProblem {
  const [storage, offset, shape, strides] = args;
  if (!isStorage(storage)) return malformed(`a tensor over a value of type ${typeName(storage)}`);
  if (!isSize(offset) || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) {
    return malformed("a tensor without a proper offset, shape and strides");
  }
  const dtype = dtypeName === undefined ? storageElement(storage.element)?.dtype : namedDType(dtypeName);
  if (dtype === undefined) {
    const name = isGlobal(dtypeName) ? dtypeName.path.replace(/^torch\./, "") : storage.element;
    return { code: "unsupported", text: `elements of type ${printable(name)}` };
  }
  return { dtype, elementBytes: DTYPES[dtype].BYTES_PER_ELEMENT, storage, offset, shape, strides };
}

function namedDType(value: PickleValue): DType | undefined {
  return isGlobal(value) ? torchDType(value.path) : undefined;
}
