"""onnxruntime: a session for each copy of a model with one product, whose weight it packs when it is made; int8 quantises fp32 rows
dynamically.  bf16 is not offered on CPUs.

    gemm_onnxruntime.py THREADS
"""
import functools
import sys

import peer  # before what may not be there: it says what starts this program

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

THREADS = 1


def name():
    return f"onnxruntime {onnxruntime.__version__}"


def model(dtype, k, n, w):
    if dtype == "fp32":
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        constants = [numpy_helper.from_array(w, "w")]
    else:
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["x_q", "x_scale", "x_zero"]),
            helper.make_node("MatMulInteger", ["x_q", "w", "x_zero", "w_zero"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["sum_fp32"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x_scale", "w_scale"], ["scale"]),
            helper.make_node("Mul", ["sum_fp32", "scale"], ["y"]),
        ]
        constants = [numpy_helper.from_array(w.astype(numpy.int8), "w"),
                     numpy_helper.from_array(numpy.zeros(n, numpy.int8), "w_zero"),
                     numpy_helper.from_array(numpy.ones(n, numpy.float32), "w_scale")]
    graph = helper.make_graph(nodes, "product",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", k])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", n])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@functools.lru_cache(maxsize=1)
def sessions(dtype, k, n):
    """one for each copy of the weight, for any number of rows"""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    text = model(dtype, k, n, peer.gemm_weight(k, n))
    return [onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
            for _ in range(peer.gemm_copies(dtype, k, n))]


def open_case(words):
    dtype, (k, n, m) = words[1], map(int, words[2:])
    if dtype == "bf16":
        return None
    x = peer.gemm_rows(k, m)
    y = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros((m, n), numpy.float32))
    bound = []
    for session in sessions(dtype, k, n):
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_ortvalue_output("y", y)
        bound.append((session, binding))

    def run(copy):
        session, binding = bound[copy]
        session.run_with_iobinding(binding)
    run(0)
    # Its scale of rows is 127 / 255, so that results in int8 are near and not equal.
    peer.gemm_check(name(), x, peer.gemm_weight(k, n), y.numpy(), dtype)
    return run, len(bound)


if __name__ == "__main__":
    THREADS = int(sys.argv[1])
    peer.serve(name(), open_case)
