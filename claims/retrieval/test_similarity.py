"""Section 11.5: a message and a memory of one meaning, and no character in common.

The semantic embedding learns from some twenty short sentences written for it: which words keep company, and no more.
"""

import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from fitcore.evaluation.retrieval import cosine_similarities
from fitcore.testing import claim, override

PLEA, DISLIKE = "不要离开我", "讨厌冷漠与忽视"
UNRELATED = ("汤里不要放香菜", "爱喝热豆浆", "冬天爱看雪", "坐火车上班", "每周去图书馆借书", "会画画")
SADNESS = (
    "朋友离开以后她觉得很孤单",
    "被人忽视的孩子常常觉得孤单",
    "冷漠的态度让人难过",
    "亲人离开家乡总让人难过",
    "谁也不喜欢受到忽视,那样会难过",
    "邻居冷漠,老人过得孤单",
)
EVERYDAY = (
    "早饭喝豆浆,吃油条",
    "晚饭做了鱼汤和青菜",
    "周末去菜市场买鱼和豆腐",
    "汤里加点香菜更好吃",
    "明天有雨,记得带伞",
    "今年冬天雪下得很大",
    "春天风大,雨也多",
    "山上的雪到夏天才化",
    "火车晚点了半小时",
    "坐火车去海边要三小时",
    "地铁站离公司很近",
    "公司下午开会,要写报告",
    "报告写完就下班",
    "这本小说借自图书馆",
    "图书馆晚上九点关门",
    "孩子在学校学画画",
)
TRAINS = (*(line.replace("离开", "搬走") for line in SADNESS), "火车离开车站晚点了", "火车晚点,半小时后离开")


def lexical(texts):
    """Embeddings by the characters and pairs of characters that a text has."""
    return TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit_transform(texts).toarray()


def semantic(texts, corpus):
    """Embeddings by latent semantic analysis of pairs of characters: pairs that keep the same company are alike."""
    pairs = TfidfVectorizer(analyzer="char", ngram_range=(2, 2))
    analysis = make_pipeline(pairs, TruncatedSVD(n_components=4, algorithm="arpack", random_state=0))
    return analysis.fit(corpus).transform(texts)


def similarities(embeddings):
    """Of the first text to each of the others."""
    embedded = torch.from_numpy(embeddings)
    return cosine_similarities(embedded[:1], embedded[1:])[0]


@claim(
    "pytorch-notes/semantic-memory-matches-without-shared-words",
    finding="An embedding learned from 22 sentences, written for it, in which leaving, coldness and neglect keep the "
    "company of sadness links the two by a cosine of 0.96, against 0.38 for the next memory. It takes an embedding of "
    "meaning: one by characters finds no likeness, for none is shared, and the plea recalls that somebody wants no "
    "coriander in the soup, because of 不要.",
    controls=[
        override("a plea in the words of the memory", plea="不要冷漠"),
        override("sentences in which only trains leave", sadness=TRAINS),
    ],
)
def test_only_an_embedding_of_meaning_links_the_plea_to_the_memory(evidence, plea=PLEA, sadness=SADNESS):
    memories = (DISLIKE, *UNRELATED)
    by_characters = similarities(lexical([plea, *memories]))
    by_meaning = similarities(semantic([plea, *memories], [*sadness, *EVERYDAY]))
    columns = zip(memories, by_characters.tolist(), by_meaning.tolist(), strict=True)
    rows = [dict(zip(("memory", "by characters", "by meaning"), row, strict=True)) for row in columns]
    evidence.table(f"cosine similarity to {plea}", rows)
    assert by_characters[0] == 0
    assert by_characters.argmax() == 1
    assert by_meaning[0] > by_meaning[1:].max() + 0.3
