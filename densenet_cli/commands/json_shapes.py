"""The shapes of the JSON documents that commands print, as --help shows them.

A line is a path, the type of its value and its meaning, separated by two spaces or more. [] stands for
each element of a list, * for any name. Every name is always there: what is not known is null. Tests
compare these lines with what the commands print.
"""

from __future__ import annotations

_FIGURES = """\
figures[].name       text   of the figure and its files
figures[].note       text   the caption
figures[].files[]    text   those written; none with --format json alone
figures[].points[].*  any   what is drawn: the columns of its CSV file
"""
_UNREADABLE = """\
unreadable[].file    text   images that are left out; then the exit status is 1
unreadable[].reason  text
"""

SHAPES = {
    "results table": """\
[].title                          text              one object for each setting, in the order of --sort
[].family                         text
[].network                        text
[].data                           text
[].n                              integer           finished runs, each of another seed
[].not_averaged                   integer           other runs
[].year                           integer or null   null without --years
[].system                         text or null
[].system_source                  text or null
[].NAME_mean                      number or null    NAME as below; over the n runs
[].NAME_std                       number or null    sample standard deviation; null for one run
[].best_on_test                   true or false     error_best was chosen by the test images
[].devices[]                      text
[].published_error_percent        number or null    these five are null without --paper
[].published_top5_error_percent   number or null
[].published_source               text or null
[].difference_points              number or null
[].why_not_compared               text or null
[].published_elsewhere[].error_percent   number     of the same published runs, by another source
[].published_elsewhere[].source   text
[].not_as_published[]             text              what differs beside the options of the protocol
[].is_baseline                    true or false     whether it is the setting of --baseline
[].verdict                        text or null      these five are null without --baseline
[].from_baseline_points           number or null    difference of the mean errors
[].from_baseline_low_points       number or null    its interval
[].from_baseline_high_points      number or null
[].from_baseline_p_holm           number or null
[].averaged_over[]                text              with --group-by: the options that vary
[].options.*                      any               the options in which settings differ
[].runs[].folder                  text
[].runs[].seed                    any
[].runs[].state                   text
[].runs[].reason                  text or null      why it failed
[].runs[].repeats                 text or null      the run that counts instead
[].runs[].skipped_images.*        any               by split, how many could not be read
[].runs[].NAME                    number or null
""",
    "results plot": _FIGURES,
    "results report": """\
file                text      the page
settings            integer
runs                integer
left_out[].path     text      records that cannot be used
left_out[].reason   text
""",
    "results decide": """\
format                                 integer          1; raised if a name changes its meaning
level                                  number
correction                             text
confidence                             number
margin_points                          number or null   of --margin
covers                                 text             the noise that the interval covers
sequential.*                           any              null but for seeds=until_decided
baseline.title                         text
baseline.network                       text
baseline.data                          text
baseline.n                             integer          finished runs
baseline.seeds[]                       any
baseline.error_percent_mean            number or null
baseline.error_percent_std             number or null   sample standard deviation
baseline.options.*                     any              the options in which settings differ
comparisons[].title                    text             one object for each other setting
comparisons[].network                  text
comparisons[].data                     text
comparisons[].n                        integer
comparisons[].seeds[]                  any
comparisons[].error_percent_mean       number or null
comparisons[].error_percent_std        number or null
comparisons[].options.*                any
comparisons[].verdict                  text             better, worse, equal or undecided
comparisons[].paired                   true or false    by seed
comparisons[].n_used                   integer          runs
comparisons[].n_baseline_used          integer
comparisons[].difference_points        number or null   ours - baseline
comparisons[].low_points               number or null   its interval
comparisons[].high_points              number or null
comparisons[].p                        number or null
comparisons[].p_holm                   number or null
comparisons[].p_equal_holm             number or null   null without --margin
comparisons[].reason                   text or null     why it is undecided
comparisons[].further_seeds            integer or null  that a decision likely needs
comparisons[].further_seeds_at_least   integer or null
comparisons[].test_images_points       number or null   half an interval for other test images
comparisons[].mcnemar.*                any              only_ours_wrong, only_baseline_wrong, p, p_holm
""",
    "results watch": """\
folder                     text
seconds_left               number or null    of all runs
runs[].run                 text              its folder below that of the sweep
runs[].state               text
runs[].epoch               integer or null
runs[].epochs              integer or null
runs[].error_percent       number or null    the newest one
runs[].images_per_second   number or null
runs[].seconds             number or null
runs[].seconds_left        number or null
runs[].reason              text or null      why it failed
comparisons[].setting      text              with seeds=until_decided, else none
comparisons[].ended        true or false
comparisons[].seeds        integer           of the newest look if it has ended, else of the next one
comparisons[].verdict      text or null      null before the first look
comparisons[].difference_points  number or null  from the baseline
comparisons[].low_points   number or null
comparisons[].high_points  number or null
""",
    "results compare": """\
a.folder                     text
a.state                      text
a.reason                     text or null            why it failed
a.best_on_test               true or false or null   error_best was chosen by the test images
b.*                          any                     as a
same_setting                 true or false           only seeds may differ
configuration[].name         text                    the options that differ
configuration[].a            any                     null also where there is none
configuration[].b            any
configuration[].has_effect   true or false           whether it can change a result
environment[].name           text                    what differs of machine and versions
environment[].a              any
environment[].b              any
images[].name                text                    if any, errors cannot be compared
images[].a                   any
images[].b                   any
skipped_images[].name        text                    train, validation or test, where they differ
skipped_images[].a           any                     names of images; null for none
skipped_images[].b           any
results[].name               text                    as error_percent, seconds, peak_memory_bytes
results[].a                  number or null
results[].b                  number or null
results[].difference         number or null          b - a
epoch_errors                 text or null            validation or test: whose errors epochs has
epochs[].epoch               integer
epochs[].a_error_percent     number
epochs[].b_error_percent     number
epochs[].difference_points   number                  b - a
""",
    "model list": """\
[].model           text      as typed after model=
[].parameters      integer
[].multiply_adds   integer   for one image of this size
[].image_height    integer   pixels
[].image_width     integer
[].classes         integer
[].description     text
""",
    "model summary": """\
network                  text
image_size_pixels        integer
channels                 integer
classes                  integer
batch_size               integer
cpu_threads              integer
layers[].name            text      empty for the network itself, which is the first
layers[].kind            text
layers[].depth           integer   0 for the network
layers[].output_shape[]  integer   for one image, as channels, height, width
layers[].parameters      integer
layers[].multiply_adds   integer   for one image
layers[].batch_seconds   number    of the forward pass of a batch
layers[].output_bytes    integer   for one image
""",
    "model predict": """\
[].file                    text     one object for each image
[].classes[].class         text     the most probable first
[].classes[].probability   number   0 to 1; of all classes 1, but of several labels each alone
[].labels                  any      of several labels: those with a probability above 0.5; else null
""",
    "model evaluate": """\
images              integer          those that can be read
crops               integer          of each image, 1 or 10, whose logits are added up
error_percent       number or null   of several labels: 100 % minus the mean AUROC
balanced_error_percent  number or null   mean over the classes; null if they have like numbers of images
top5_error_percent  number or null   null for few classes
auroc               number or null   0 to 1; null for images with one label each, as f1
f1                  number or null
loss                number           of recipe.loss, in nats
classes[].class          text             by error, the highest first
classes[].error_percent  number or null   null if no image or every one has the label
classes[].images         integer          with its label
classes[].auroc          number or null
classes[].f1             number or null
"""
    + _UNREADABLE,
    "model pack": """\
pack       text              its folder
images     integer           those that were left out count too
broken     integer           images that were left out
bytes      integer           of all its files
size       integer or null   shorter side of resized images; null: as they are
quality    any               of their JPEG files, or raw
classes    integer
splits.*   integer           images of train, validation and test, or of all
""",
    "model export": """\
file                 text            written
format               text
checked_images       integer         images for which file and network gave the same logits
are_random           true or false   whether these images were random
largest_difference   number          of the logits, divided by the largest logit
""",
    "model reuse": """\
networks[].network                    text
networks[].is_trained                 true or false
networks[].layers_evenness            number or null   observations of the paper, section 5
networks[].layers_largest             number or null   strongest source / mean
networks[].transitions_evenness       number or null
networks[].transitions_largest        number or null
networks[].input_over_others          number or null   block input / other sources
networks[].input_is_least             number or null   share of layers, 0 to 1
networks[].input_is_least_by_chance   number or null
networks[].late_over_early            number or null   of the classifier's maps
networks[].lateness                   number or null   correlation of weight and position
networks[].error_percent              number or null   null with --images 0, as all below
networks[].layers_cut_points          number or null   more, if late layers get no early maps
networks[].layers_cut_low_points      number or null   its 95 % interval
networks[].layers_cut_high_points     number or null
networks[].ends_cut_points            number or null   more, if transitions and classifier do not
networks[].ends_cut_low_points        number or null
networks[].ends_cut_high_points       number or null
"""
    + _FIGURES,
    "model lesions": """\
networks[].network                             text
networks[].units                               integer
networks[].replaced_by                         text      zero, mean, or input (passed on)
networks[].intact_error_percent                number
networks[].one_deleted_mean_error_percent      number
networks[].one_deleted_highest_error_percent   number
networks[].worst_unit                          text
"""
    + _FIGURES,
    "model gradients": """\
networks[].network             text
networks[].units               integer          residual blocks or dense layers
networks[].unit_kind           text or null
networks[].units_passed_mean   number or null   by the gradient; null without units
"""
    + _FIGURES,
    "model depth": """\
networks[].network                          text
networks[].layers                           integer
networks[].draws                            integer          of the weights
networks[].first_layer_gradient_norm_mean   number
networks[].first_layer_gradient_norm_std    number or null   sample standard deviation
networks[].last_layer_gradient_norm_mean    number
networks[].last_layer_gradient_norm_std     number or null
networks[].factor_per_layer                 number or null   null for the shallowest
networks[].units                            integer          residual blocks or dense layers
networks[].units_passed_mean                number or null
"""
    + _FIGURES,
    "model maps": "networks[].network   text\n" + _FIGURES,
    "model mistakes": """\
networks[].network                     text
networks[].images                      integer
networks[].error_percent               number
networks[].calibration_error_percent   number
networks[].classes[].class             text      the highest error first
networks[].classes[].error_percent     number
networks[].classes[].images            integer
"""
    + _FIGURES,
    "model saliency": "networks[].network   text\n" + _FIGURES,
    "run plan=json": """\
folder                     text
seconds                    number            of all runs, one after another
seconds_left               number
runs[].folder              text
runs[].overrides[]         text              what one would type to run it alone
runs[].state               text              as to do, interrupted, done
runs[].epochs              number or null
runs[].parameters          integer or null
runs[].multiply_adds       integer or null   for one image
runs[].peak_memory_bytes   integer or null
runs[].seconds             number or null    of the whole run
runs[].seconds_left        number or null
runs[].device              text or null      that was measured; null for runs that are done
runs[].reason              text or null      why it cannot run; then the exit status is 1
at_most.*                  any               with seeds=until_decided: runs, seconds, seconds_left
""",
}


def described(name: str, typed: str = "--format json") -> str:
    """The shape of a command's document, for its --help."""
    lines = "".join(f"  {line}\n" for line in SHAPES[name].splitlines())
    return f"with {typed} standard output is one JSON document:\n{lines}"
