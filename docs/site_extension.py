"""Sphinx extension of this site.

- Renders formulas as MathML.
- Links names of scikit-learn to its site by URL, without fetching an inventory.
- Adds ``.. benchmark-table:: name``, which inserts a table of benchmark_tables.py.
- Shows the output of the examples of the guide.
- Groups the parameters of the estimators; lets their names break at underscores and capitals.
- Converts included Markdown (the changelog) to reStructuredText, and escapes numpydoc's types.
"""

import re

import benchmark_tables
import executed
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxDirective

import skae

# Groups of the parameters, in the order of the pages. Each parameter must have a group.
GROUPS = {
    "Architecture": [
        *("n_components", "hidden_layer_sizes", "activation", "loss", "tied_weights", "code"),
        *("n_active", "transform_n_active", "sparse_output"),
        *("n_layers", "concatenate", "n_estimators"),
    ],
    "Task": [
        *("contamination", "missing_values", "add_indicator", "keep_empty_features"),
        *("pretrain", "fine_tune", "final_estimator", "class_weight"),
        *("smoothness_radius", "propagate_labels"),
    ],
    "Corruption and regularisation": [
        *("corruption", "corruption_level", "sparsity_target", "sparsity_penalty", "alpha"),
        *("dropout", "input_dropout", "max_norm", "adversarial_radius", "label_smoothing"),
    ],
    "Training": [
        *("solver", "learning_rate", "learning_rate_init", "learning_rate_factors"),
        *("n_warmup_epochs", "batch_size", "max_iter", "joint", "joint_max_iter"),
        *("joint_learning_rate_init", "momentum", "nesterovs_momentum", "beta_1", "beta_2"),
        *("epsilon", "shuffle", "n_averaged_epochs", "warm_start", "random_state", "verbose"),
    ],
    "Stopping": ["early_stopping", "validation_fraction", "n_iter_no_change", "tol"],
}

SKLEARN = "https://scikit-learn.org/stable/"
# Sections of scikit-learn's site that inherited docstrings refer to.
SECTIONS = {
    "accuracy_score": "modules/model_evaluation.html#accuracy-score",
    "r2_score": "modules/model_evaluation.html#r2-score",
    "metadata_routing": "metadata_routing.html",
    "df_output_transform": "modules/compose.html#df-output-transform",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": (
        "auto_examples/miscellaneous/plot_set_output.html"
    ),
}


# ---- formulas -----------------------------------------------------------------------------


def visit_math(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator, node):
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math-block">{formula}</div>\n')
    raise nodes.SkipNode


# ---- links --------------------------------------------------------------------------------


def resolve(app, env, node, contnode):
    """Return a link for a name that Sphinx cannot resolve, or None."""
    domain, target = node.get("refdomain"), node.get("reftarget", "")
    if domain == "py" and target in skae.__all__:
        return env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", f"skae.{target}", node, contnode
        )
    page = None
    if domain == "py" and target == "sklearn.callback":
        page = f"api/{target}.html"
    elif domain == "py" and target.startswith("sklearn."):
        page = f"modules/generated/{target}.html"
    elif domain == "std" and node.get("reftype") == "ref":
        page = SECTIONS.get(target)
    elif domain == "std" and node.get("reftype") == "term":
        page = f"glossary.html#term-{target}"
    if page is None:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=SKLEARN + page)


# ---- content ------------------------------------------------------------------------------


class BenchmarkTable(SphinxDirective):
    """``.. benchmark-table:: name``, generated from the files in benchmarks/results."""

    required_arguments = 1

    def run(self):
        for path in benchmark_tables.RESULTS.glob("*.json"):
            self.env.note_dependency(str(path))
        self.env.note_dependency(benchmark_tables.__file__)
        text = benchmark_tables.TABLES[self.arguments[0]]()
        return self.parse_text_to_nodes(text)


def markdown_to_rst(text):
    """Convert headings, code and links of Markdown to reStructuredText; lists are the same."""
    text = re.sub(r"^# .*\n", "", text)
    text = re.sub(r"^##(#?) (.*)$", underlined, text, flags=re.MULTILINE)
    text = re.sub(r"`([^`]+)`", r"``\1``", text)
    return re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text)


def underlined(heading):
    return f"{heading[2]}\n{('~' if heading[1] else '-') * len(heading[2])}"


def escape_types(app, what, name, obj, options, lines):
    """Escape trailing underscores in numpydoc's types: n_features_in_ would become a link."""
    for k, line in enumerate(lines):
        if re.match(r" *\*\*\w+\*\* : ", line):
            head, kind = line.split(" : ", 1)
            lines[k] = head + " : " + re.sub(r"_(?=\W)", r"\_", kind)


def group_parameters(app, what, name, obj, options, lines):
    """Make a field for each group of an estimator's parameters, instead of a single field."""
    if what != "class" or not hasattr(obj, "get_params") or ":Parameters:" not in lines:
        return
    begin = lines.index(":Parameters:")
    end = next((k for k in range(begin + 1, len(lines)) if re.match(r"\S", lines[k])), len(lines))
    texts = {}
    for line in lines[begin + 1 : end]:
        if match := re.match(r"    \*\*(\w+)\*\* : ", line):
            text = texts[match[1]] = []
        if texts:
            text.append(line)
    grouped = []
    for group, names in GROUPS.items():
        if found := [texts.pop(one) for one in names if one in texts]:
            grouped += [f":{group}:", "", *(line for text in found for line in text)]
    if texts:
        raise ValueError(f"{name}: no group in site_extension.GROUPS has {sorted(texts)}")
    lines[begin:end] = grouped


def show_output(app, docname, source):
    if docname.startswith("guide/"):
        source[0] = executed.executed(source[0], docname)


def break_long_names(app, page, template, context, doctree):
    """Let long names break behind an underscore and before a capital."""
    if "body" in context:
        context["body"] = re.sub(
            r'(?<=<span class="pre">)[^<]+|(?<=<strong>)\w+(?=</strong>)',
            lambda name: re.sub(r"(?<=_)(?=\w)|(?<=[a-z])(?=[A-Z])", "<wbr>", name[0]),
            context["body"],
        )


def convert_included(app, path, docname, content):
    if path.suffix == ".md":
        content[0] = markdown_to_rst(content[0])


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.add_directive("benchmark-table", BenchmarkTable)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", escape_types, priority=900)  # after numpydoc
    app.connect("autodoc-process-docstring", group_parameters, priority=901)
    app.connect("source-read", show_output)
    app.connect("html-page-context", break_long_names)
    app.connect("include-read", convert_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
