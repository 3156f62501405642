"""An OSNet in PyTorch, with torchreid's names of modules, as an osnet-convert spec describes it: what torch's exporter is given.

    python bench/torch_osnet.py SPEC.json WEIGHTS.pth OUT.onnx

Needs torch and onnx. Legacy exporter, opset 17, dynamic batch, evaluation mode, the embedding as the output.
"""
import json
import sys

import torch
from torch import nn


class ConvLayer(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, instance=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.InstanceNorm2d(outputs, affine=True) if instance else nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


class Linear1x1(nn.Module):
    def __init__(self, inputs, outputs, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x):
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


class LightConv(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=channels)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)
        self.gate_activation = nn.Sigmoid()

    def forward(self, x):
        return x * self.gate_activation(self.fc2(self.relu(self.fc1(self.global_avgpool(x)))))


class Stream(nn.Module):
    def __init__(self, channels, depth):
        super().__init__()
        self.layers = nn.Sequential(*(LightConv(channels) for _ in range(depth)))

    def forward(self, x):
        return self.layers(x)


class Block(nn.Module):
    def __init__(self, block, spec):
        super().__init__()
        inputs, outputs, count = block["inChannels"], block["outChannels"], block["streams"]
        middle = outputs // block["reduction"]
        self.conv1 = ConvLayer(inputs, middle, 1)
        self.is_ain = spec["dialect"] == "osnet_ain"
        if self.is_ain:
            self.conv2 = nn.ModuleList(Stream(middle, depth + 1) for depth in range(count))
        else:
            self.names = ["conv2" + chr(ord("a") + depth) for depth in range(count)]
            for depth, name in enumerate(self.names):
                layers = [LightConv(middle) for _ in range(depth + 1)]
                setattr(self, name, layers[0] if depth == 0 else nn.Sequential(*layers))
        self.gate = Gate(middle, spec["gate"]["reduction"])
        self.placement = block["instanceNorm"]
        self.conv3 = Linear1x1(middle, outputs, norm=self.placement != "inside")
        self.downsample = None if inputs == outputs else Linear1x1(inputs, outputs)
        self.IN = None if self.placement == "none" else nn.InstanceNorm2d(outputs, affine=True)
        self.relu = nn.ReLU()

    def forward(self, x):
        middle = self.conv1(x)
        streams = self.conv2 if self.is_ain else [getattr(self, name) for name in self.names]
        total = 0
        for stream in streams:
            total = total + self.gate(stream(middle))
        out = self.conv3(total)
        if self.placement == "inside":
            out = self.IN(out)
        out = out + (x if self.downsample is None else self.downsample(x))
        if self.placement == "outside":
            out = self.IN(out)
        return self.relu(out)


class OSNet(nn.Module):
    def __init__(self, spec):
        super().__init__()
        stem, stages = spec["stem"], spec["stages"]
        self.conv1 = ConvLayer(3, stem["channels"], 7, stride=2, instance=stem["norm"] == "instance")
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.order = []
        for number, stage in enumerate(stages, 2):
            blocks = [Block(block, spec) for block in stage["blocks"]]
            width = stage["blocks"][-1]["outChannels"]
            transition = [nn.Sequential(ConvLayer(width, width, 1), nn.AvgPool2d(2, stride=2))] if stage["transition"] else []
            if spec["dialect"] == "osnet":
                parts = [(f"conv{number}", blocks + transition)]
            else:
                parts = [(f"conv{number}", blocks)] + [(f"pool{number}", list(part)) for part in transition]
            for name, modules in parts:
                setattr(self, name, nn.Sequential(*modules))
                self.order.append(name)
        last = f"conv{len(stages) + 2}"
        setattr(self, last, ConvLayer(width, width, 1))
        self.order.append(last)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        layers = []
        for size in spec["embedding"]:
            layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU()]
            width = size
        self.fc = nn.Sequential(*layers)
        if spec["head"]:
            self.classifier = nn.Linear(width, spec["head"]["classes"])

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        for name in self.order:
            x = getattr(self, name)(x)
        return self.fc(torch.flatten(self.global_avgpool(x), 1))


if __name__ == "__main__":
    description, weights, out = sys.argv[1:4]
    with open(description, encoding="utf8") as file:
        model = OSNet(json.load(file))
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    torch.onnx.export(
        model.eval(),
        torch.zeros(1, 3, 256, 128),
        out,
        dynamo=False,
        opset_version=17,
        input_names=["images"],
        output_names=["features"],
        dynamic_axes={"images": {0: "batch"}, "features": {0: "batch"}},
    )
    print(torch.__version__)
