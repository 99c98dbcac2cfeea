#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""ONNX's own test cases (Debian's libonnx-testdata), and ours for newer opsets, node by node.

usage: onnx_conform.py PATH/onnx_conform [LEVEL ...]      levels: ref cpu

Every case named below must pass; each of the others must pass or be refused as not supported. No case may
end the program. Then the cases of onnx_fixtures.py (opset 18 to 21, functions, weights in other files),
computed by numpy and scipy. Exit 0 all as it should be, 1 not, 77 when nothing could be compared."""
import collections
import os
import re
import subprocess
import sys
import tempfile

NODE = """
abs add{,_bcast} sub{,_bcast,_example} mul{,_bcast,_example} div{,_bcast,_example} neg{,_example} exp{,_example}
log{,_example} sqrt{,_example} erf reciprocal{,_example} relu tanh{,_example} sigmoid{,_example}
pow{,_bcast_array,_bcast_scalar,_example,_types_float,_types_float32_int32,_types_float32_int64,_types_int}
pow_types_{int32_float32,int32_int32,int64_float32,int64_int64} leakyrelu{,_default,_example} elu{,_default,_example}
selu{,_default,_example} prelu_{broadcast,example} softplus{,_example} hardsigmoid{,_default,_example}
hardswish{,_expanded} celu_expanded
clip{,_default_inbounds,_default_max,_default_min,_example,_inbounds,_outbounds,_splitbounds}
basic_conv_{with,without}_padding
conv_with_{autopad_same,strides_and_asymmetric_padding,strides_no_padding,strides_padding}
convtranspose{,_1d,_autopad_same,_dilations,_kernel_shape,_output_shape,_pad,_pads,_with_kernel}
batchnorm_{epsilon,example} instancenorm_{epsilon,example} mvn_expanded
layer_normalization_2d_axis{0,1,_negative_1,_negative_2}{,_expanded}
layer_normalization_3d_axis{0,1,2,_negative_1,_negative_2,_negative_3}_epsilon{,_expanded}
layer_normalization_4d_axis{0,1,2,3,_negative_1,_negative_2,_negative_3,_negative_4}{,_expanded}
layer_normalization_default_axis{,_expanded} averagepool_1d_default
averagepool_2d_{ceil,default,pads,pads_count_include_pad,precomputed_pads,precomputed_pads_count_include_pad}
averagepool_2d_{precomputed_same_upper,precomputed_strides,same_lower,same_upper,strides} maxpool_1d_default
maxpool_2d_{ceil,default,dilations,pads,precomputed_pads,precomputed_same_upper,precomputed_strides,same_lower}
maxpool_2d_{same_upper,strides} maxpool_with_argmax_2d_precomputed_{pads,strides}
globalaveragepool{,_precomputed} globalmaxpool{,_precomputed}
gemm_{all_attributes,alpha,beta,transposeA,transposeB}
gemm_default_{matrix_bias,no_bias,scalar_bias,single_elem_vector_bias,vector_bias,zero_bias} matmul_{2,3,4}d
{,log}softmax_{axis_{0,1,2},default_axis,large_number,negative_axis}{,_expanded} softmax_example{,_expanded}
logsoftmax_example_1{,_expanded} reduce_max_default_axes_{keepdim_example,keepdims_random}
reduce_max_{do_not_keepdims,keepdims,negative_axes_keepdims}_{example,random}
reduce_mean_{default_axes_keepdims,do_not_keepdims,keepdims,negative_axes_keepdims}_{example,random}
reduce_sum_{default_axes_keepdims,do_not_keepdims,empty_axes_input_noop,keepdims,negative_axes_keepdims}_{example,random}
{max,min}_{example,float32,int32,int64,one_input,two_inputs} {mean,sum}_{example,one_input,two_inputs}
equal{,_bcast} where_{example,long_example} flatten_{axis{0,1,2,3},default_axis,negative_axis{1,2,3,4}}
reshape_{allowzero_reordered,extended_dims,negative_dim,negative_extended_dims,one_dim,reduced_dims}
reshape_{reordered_all_dims,reordered_last_dims,zero_and_negative_dim,zero_dim}
transpose_{all_permutations_{0,1,2,3,4,5},default} squeeze{,_negative_axes}
unsqueeze_{axis_{0,1,2,3},negative_axes,three_axes,two_axes,unsorted_axes}
concat_{1d_axis_{0,negative_1},2d_axis_{0,1,negative_1,negative_2},3d_axis_{0,1,2,negative_1,negative_2,negative_3}}
split_{equal_parts_{1d,2d,default_axis},variable_parts_{1d,2d,default_axis},zero_size_splits}
slice{,_default_axes,_default_steps,_end_out_of_bounds,_neg,_neg_steps,_negative_axes,_start_out_of_bounds}
{constant,edge,reflect}_pad expand_dim_{,un}changed gather_{0,1,2d_indices,negative_indices} constant
constantofshape_{float_ones,int_shape_zero,int_zeros} identity size{,_example}
shape{,_clip_end,_clip_start,_end_1,_end_negative_1,_example,_start_1,_start_1_end_2,_start_1_end_negative_1}
shape_start_negative_1 dropout_{default{,_mask,_mask_ratio,_old,_ratio},random_old}
"""
CONVERTED = """
AvgPool{1,2}d{,_stride} BatchNorm1d_3d_input_eval BatchNorm2d{,_momentum}_eval
{ConstantPad,ReflectionPad,ReplicationPad,ZeroPad}2d
Conv1d{,_dilated,_groups,_pad1,_pad1size1,_pad2,_pad2size1,_stride}
Conv2d{,_depthwise{,_padded,_strided,_with_multiplier},_dilated,_groups,_groups_thnn,_no_bias,_padding,_strided}
ConvTranspose2d{,_no_bias} ELU SELU ReLU Sigmoid Tanh Softmax Softmin Softplus Softsign LogSoftmax
LeakyReLU{,_with_negval} Embedding{,_sparse} GLU{,_dim} Linear{,_no_bias} MaxPool1d{,_stride,_stride_padding_dilation}
MaxPool2d{,_stride_padding_dilation} PReLU_{1,2,3}d{,_multiparam} PixelShuffle PoissonNLLLLoss_no_reduce
log_softmax_{dim3,lastdim} softmax_{functional_dim3,lastdim}
operator_{addmm,basic,chunk,clip,concat2,conv,convtranspose,exp,flatten,index,max,maxpool,min,mm,non_float_params,pad}
operator_{params,permute2,pow,reduced_mean{,_keepdim},reduced_sum{,_keepdim},selu,sqrt}
operator_{symbolic_override{,_nested},view} expand_shape_model{1,2,3,4} single_relu_model
"""


def expand(text):
    """As a shell expands braces."""
    found = re.search(r"\{([^{}]*)\}", text)
    if not found:
        return [text]
    return [name for part in found[1].split(",")
            for name in expand(text[:found.start()] + part + text[found.end():])]


def names(text):
    return {"test_" + name for word in text.split() for name in expand(word)}


def data_folder():
    """Where the package has put its cases; None: it is not installed."""
    listed = subprocess.run(["dpkg", "-L", "libonnx-testdata"], capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        if line.endswith("/backend/test/data") and os.path.isdir(line):
            return line
    return None


def run(program, level, folders):
    """The verdict and the reason for each folder."""
    done = subprocess.run([program, level], input="\n".join(folders) + "\n", capture_output=True, text=True)
    verdicts = {}
    for line in done.stdout.splitlines():
        verdict, rest = line.split(" ", 1)
        folder, _, why = rest.partition(": ")
        verdicts[folder] = verdict, why
    if done.returncode:
        print(f"FAIL {level}: ended with status {done.returncode} after "
              f"{list(verdicts)[-1] if verdicts else 'nothing'}: {done.stderr.strip()[-300:]}")
        return None
    return verdicts


def cases(program, level, data):
    named, others = [], []
    node, converted = names(NODE), names(CONVERTED)
    for suite in sorted(os.listdir(data)):
        for name in sorted(os.listdir(f"{data}/{suite}")):
            if os.path.exists(f"{data}/{suite}/{name}/model.onnx"):
                ours = node if suite == "node" else converted
                (named if name in ours else others).append(f"{data}/{suite}/{name}")
    verdicts = run(program, level, named + others)
    if verdicts is None:
        return False
    good = True
    for folder in named + others:
        verdict, why = verdicts.get(folder, ("fail", "nothing was said"))
        if verdict == "fail" or (folder in named and verdict != "pass"):
            good = False
            print(f"FAIL {level} {folder[len(data) + 1:]}: {why}")
    count = collections.Counter(verdicts[f][0] for f in others)
    passed = sum(verdicts[f][0] == "pass" for f in named)
    good &= passed == len(node) + len(converted)
    print(f"{'ok  ' if good else 'FAIL'} {passed} of {len(node) + len(converted)} pass ({level}), {count['pass']} others "
          f"pass, {count['unsupported']} unsupported")
    if level == "ref":
        missing = collections.Counter(op for f in others for op in re.findall(r"\((?:[\w.]*\.)?(\w+)\)",
                                      verdicts[f][1].split("not built: ")[-1] if "not built" in verdicts[f][1] else ""))
        print("     operators not built: " + ", ".join(f"{op} {n}" for op, n in sorted(missing.items())))
    return good


def fixtures(program, level, folder):
    import onnx_fixtures
    folders = onnx_fixtures.write(folder)
    verdicts = run(program, level, folders)
    if verdicts is None:
        return False
    bad = [f for f in folders if verdicts.get(f, ("", ""))[0] != "pass"]
    for f in bad:
        print(f"FAIL {level} {os.path.basename(f)}: {verdicts.get(f, ('', 'nothing was said'))[1]}")
    print(f"{'FAIL' if bad else 'ok  '} {len(folders) - len(bad)} of {len(folders)} of our own pass ({level})")
    return not bad


def main():
    program, levels = sys.argv[1], sys.argv[2:] or ["ref", "cpu"]
    good, compared = True, False
    data = data_folder()
    for level in levels:
        if data:
            good &= cases(program, level, data)
            compared = True
    if not data:
        print("skipped: libonnx-testdata is not installed")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for level in levels:
                good &= fixtures(program, level, folder)
                compared = True
    except ImportError as missing:
        print(f"skipped: {missing}")
    return 77 if not compared else 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
