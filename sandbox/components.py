"""The published components that a planner may put into the planned U-Net.

A component is a card: what it does, who published it, where it may go, what it is said to
bring, what would refute that, and which class of `sandbox/blocks/` implements it. Nothing
here imports torch. `sandbox/placement.py` holds the rules of where components may go.

`form` is how a block enters the generated network:
    stage       replaces the convolutions of a stage
    layer       follows the convolutions of a stage, or works on a skip alone
    gate        works on a skip, and sees the decoder features one stage below
    nest        works on a skip, and sees the encoder features one stage below
    downsample  replaces the stride of a stage
    weights     sets the loss weights of the heads

`cost` is the rough extra time of one stage, in units of the plain stage's own time, from
training steps of small 2D and 3D plans on one CPU core; it only ranks modules when one must
go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from memory.errors import PlannerError


@dataclass(frozen=True, slots=True)
class Component:
    """One published idea and the block that implements it.

    `idea`, `claim` and `refuted_by` are sentences without the leading name; `suits` maps a
    trait of a dataset to the reason why the component may help there. `span` says which
    stages it is meant for: all, fine or deep.
    """

    name: str
    title: str
    positions: tuple[str, ...]
    form: str
    idea: str
    claim: str
    refuted_by: str
    source: str
    citations: tuple[str, ...]
    file: str
    class_name: str
    cost: float
    span: str = "all"
    dims: tuple[int, ...] = (2, 3)
    first_stage: int = 0
    suits: Mapping[str, str] = field(default_factory=dict)


SMALL, THIN, ANISOTROPIC = "small_objects", "thin_boundary", "anisotropic"
MANY, FEW, VOLUMES = "many_classes", "few_cases", "volumes"

_CARDS = (
    Component(
        name="residual_encoder",
        title="residual encoder",
        positions=("encoder",),
        form="stage",
        idea="two convolutions and a shortcut replace each planned convolution",
        claim="Shortcuts ease the training of deeper encoders, and nnU-Net's residual encoders "
        "are its authors' recommended baseline.",
        refuted_by="the training loss ends no lower than the baseline's",
        source="He et al. 2016, arXiv:1512.03385; Isensee et al. 2024, arXiv:2404.09556",
        citations=("he2016resnet", "isensee2024revisited"),
        file="residual",
        class_name="ResidualStage",
        cost=1.2,
        suits={
            MANY: "many classes need more capacity than two convolutions a stage give",
            VOLUMES: "nnU-Net's own comparison on volumes favours residual encoders",
        },
    ),
    Component(
        name="squeeze_excitation",
        title="squeeze-and-excitation",
        positions=("encoder", "decoder"),
        form="layer",
        idea="each channel is rescaled by a small network that sees the mean of all channels",
        claim="Recalibrated channels are said to raise accuracy at little extra cost.",
        refuted_by="the gain is the same when the weights are replaced by their mean",
        source="Hu et al. 2018, arXiv:1709.01507",
        citations=("hu2018squeeze",),
        file="squeeze_excitation",
        class_name="SqueezeExcitation",
        cost=0.1,
        suits={MANY: "the classes differ in appearance, so they need different channels"},
    ),
    Component(
        name="attention_gate",
        title="attention gates",
        positions=("skip",),
        form="gate",
        idea="each place of a skip is weighed by its agreement with the coarser decoder features",
        claim="Gates are said to suppress responses outside the organ of interest without a "
        "separate localisation network.",
        refuted_by="false positives far from the reference do not become fewer",
        source="Oktay et al. 2018, arXiv:1804.03999",
        citations=("oktay2018attention",),
        file="attention_gate",
        class_name="AttentionGate",
        cost=0.4,
        span="fine",
        suits={SMALL: "small objects leave much background for the gates to suppress"},
    ),
    Component(
        name="mednext",
        title="MedNeXt blocks",
        positions=("encoder", "decoder"),
        form="stage",
        idea="depthwise convolutions with inverted bottlenecks and shortcuts replace the planned "
        "convolutions",
        claim="ConvNeXt blocks made for medical images are said to be strong on CT and MR at "
        "several dataset sizes.",
        refuted_by="the gain vanishes when the plain stage gets the same training time",
        source="Roy et al. 2023, arXiv:2303.09975; Liu et al. 2022, arXiv:2201.03545",
        citations=("roy2023mednext", "liu2022convnext"),
        file="mednext",
        class_name="MedNeXtStage",
        cost=0.9,
        suits={FEW: "depthwise kernels have few weights to fit to few cases"},
    ),
    Component(
        name="large_kernel",
        title="large-kernel depthwise blocks",
        positions=("encoder",),
        form="stage",
        idea="depthwise convolutions of width 7, beside small ones, widen the field of view",
        claim="Large kernels are said to replace the wide context of transformers with fewer "
        "weights and more attention to shape than to texture.",
        refuted_by="large structures gain no more than small ones",
        source="Lee et al. 2023, arXiv:2209.15076; Ding et al. 2022, arXiv:2203.06717",
        citations=("lee2023uxnet", "ding2022replknet"),
        file="large_kernel",
        class_name="LargeKernelStage",
        first_stage=1,
        cost=1.6,
        suits={
            THIN: "weak borders are told by shape rather than by local contrast",
            VOLUMES: "a width of 7 spans more of a volume's small patch than of a slice",
        },
    ),
    Component(
        name="separable_convolution",
        title="depthwise-separable convolutions",
        positions=("encoder", "decoder"),
        form="stage",
        idea="each planned convolution is split into a depthwise and a 1x1 convolution",
        claim="The same accuracy is said to be reached with far fewer weights.",
        refuted_by="the mean Dice falls below the baseline's by more than its seed noise",
        source="Chollet 2017, arXiv:1610.02357",
        citations=("chollet2017xception",),
        file="separable",
        class_name="SeparableStage",
        cost=0.1,
        first_stage=1,
        suits={FEW: "fewer weights are harder to overfit on few cases"},
    ),
    Component(
        name="axial_attention",
        title="axial attention",
        positions=("bottleneck", "encoder"),
        form="layer",
        idea="self-attention along one axis after the other lets every place see the whole map",
        claim="Full context is said to come at a cost that grows with the axes' lengths and not "
        "with the number of places squared.",
        refuted_by="errors that depend on distant context, such as left for right, stay",
        source="Ho et al. 2019, arXiv:1912.12180; Wang et al. 2020, arXiv:2003.07853",
        citations=("ho2019axial", "wang2020axial"),
        file="axial_attention",
        class_name="AxialAttention",
        cost=1.5,
        span="deep",
        suits={
            MANY: "the classes are told apart by where they lie relative to each other",
            ANISOTROPIC: "attention along each axis takes the coarse axis at its own pace",
        },
    ),
    Component(
        name="linear_attention",
        title="linear attention",
        positions=("bottleneck", "encoder"),
        form="layer",
        idea="attention with a kernel in place of the softmax costs time linear in the places",
        claim="Global context is said to come without quadratic cost and without a state-space "
        "model.",
        refuted_by="the gain is not larger on images whose structures lie far apart",
        source="Katharopoulos et al. 2020, arXiv:2006.16236; Shen et al. 2021, arXiv:1812.01243",
        citations=("katharopoulos2020linear", "shen2021efficient"),
        file="linear_attention",
        class_name="LinearAttention",
        cost=0.7,
        span="deep",
        suits={VOLUMES: "volumes have too many places for quadratic attention"},
    ),
    Component(
        name="graph_aggregation",
        title="graph-guided patch aggregation",
        positions=("bottleneck", "encoder"),
        form="layer",
        idea="each patch of features is mixed with the patches most similar to it",
        claim="After the idea of GPAFormer, shown on CT and MR volumes: parts of one tissue that "
        "lie apart support each other at low cost.",
        refuted_by="the gain is the same when the neighbours are drawn at random",
        source="GPAFormer, re-implemented from its idea alone",
        citations=("gpaformer",),
        file="graph_aggregation",
        class_name="GraphAggregation",
        cost=0.6,
        span="deep",
        suits={MANY: "places of one class look alike and can support each other"},
    ),
    Component(
        name="boundary_enhancement",
        title="boundary-guided feature enhancement",
        positions=("decoder",),
        form="layer",
        idea="a narrow predicted boundary is widened into an attention map around the borders",
        claim="After the idea of PBE-UNet, shown on ultrasound: effort goes where borders are "
        "uncertain, at little extra cost.",
        refuted_by="Dice rises while NSD does not, for then the gain is not at the border",
        source="PBE-UNet, re-implemented from its idea alone",
        citations=("pbeunet",),
        file="boundary",
        class_name="BoundaryEnhancement",
        cost=1.1,
        span="fine",
        suits={
            THIN: "most errors of such structures lie within a voxel or two of the border",
            SMALL: "small objects are mostly border",
        },
    ),
    Component(
        name="scale_aggregation",
        title="scale-aware aggregation",
        positions=("skip", "decoder", "bottleneck"),
        form="layer",
        idea="features of several dilations are mixed by weights that each place chooses",
        claim="After the idea of PBE-UNet, shown on ultrasound: one network serves objects of "
        "several sizes.",
        refuted_by="the gain does not depend on the size of the structure",
        source="PBE-UNet, re-implemented from its idea alone",
        citations=("pbeunet",),
        file="scale_aggregation",
        class_name="ScaleAggregation",
        cost=1.7,
        suits={
            SMALL: "small and large parts of the foreground need different fields of view",
            MANY: "the classes differ in size",
        },
    ),
    Component(
        name="block_attention",
        title="channel and spatial attention (CBAM)",
        positions=("skip", "decoder", "encoder"),
        form="layer",
        idea="features are weighed per channel, then per place, from their means and maxima",
        claim="Sequential attention is said to help most networks at negligible cost.",
        refuted_by="the gain is no larger than that of channel weights alone",
        source="Woo et al. 2018, arXiv:1807.06521",
        citations=("woo2018cbam",),
        file="cbam",
        class_name="BlockAttention",
        cost=1.0,
        suits={SMALL: "maxima keep small objects that means wash out"},
    ),
    Component(
        name="dense_skip",
        title="nested skips",
        positions=("skip",),
        form="nest",
        idea="each skip is merged with the encoder stage below it, the first node of UNet++",
        claim="Nested skips are said to close the gap in meaning between encoder and decoder "
        "features.",
        refuted_by="coarse heads gain as much as the finest one",
        source="Zhou et al. 2018, arXiv:1807.10165",
        citations=("zhou2018unetpp",),
        file="dense_skip",
        class_name="DenseSkip",
        cost=0.7,
        span="fine",
        suits={THIN: "fine borders need skips that already carry some meaning"},
    ),
    Component(
        name="blur_pool",
        title="anti-aliased downsampling",
        positions=("downsample",),
        form="downsample",
        idea="features are low-pass filtered before they are subsampled",
        claim="Networks are said to become steadier under shifts of the input, and more accurate.",
        refuted_by="predictions change as much as the baseline's when the image is shifted by a "
        "voxel",
        source="Zhang 2019, arXiv:1904.11486",
        citations=("zhang2019blurpool",),
        file="blur_pool",
        class_name="BlurPool",
        cost=0.1,
        first_stage=1,
        suits={
            THIN: "thin structures alias when every second voxel is dropped",
            SMALL: "a small object must not depend on which voxels are kept",
        },
    ),
    Component(
        name="even_supervision",
        title="even deep supervision",
        positions=("heads",),
        form="weights",
        idea="all heads weigh the same in the loss, the coarsest included",
        claim="Companion losses at depth are said to give the hidden layers clearer gradients; "
        "the weights are ours.",
        refuted_by="the finest head loses what the coarse ones gain",
        source="Lee et al. 2015, arXiv:1409.5185",
        citations=("lee2015deeply",),
        file="deep_supervision",
        class_name="even_weights",
        cost=0.0,
        suits={FEW: "coarse targets are an easier lesson where cases are few"},
    ),
    Component(
        name="fine_supervision",
        title="fine deep supervision",
        positions=("heads",),
        form="weights",
        idea="the weight of a head falls to a quarter, not a half, with each coarser stage",
        claim="Companion losses are kept for their gradients, but the full resolution rules; the "
        "weights are ours.",
        refuted_by="the loss at full resolution ends no lower than the baseline's",
        source="Lee et al. 2015, arXiv:1409.5185",
        citations=("lee2015deeply",),
        file="deep_supervision",
        class_name="fine_weights",
        cost=0.0,
        suits={
            SMALL: "small objects vanish from coarse targets, which then teach the wrong thing",
            THIN: "thin borders are wrong in every downsampled target",
        },
    ),
)

COMPONENTS: Mapping[str, Component] = {card.name: card for card in _CARDS}


def component(name: str) -> Component:
    """Return the card of a component.

    Raises:
        PlannerError: there is none of that name.
    """
    if name not in COMPONENTS:
        raise PlannerError(f"no component {name!r}; known: {', '.join(sorted(COMPONENTS))}")
    return COMPONENTS[name]
