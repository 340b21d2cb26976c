"""Samples made elsewhere: read (lm-eval, inspect, NeMo-Skills, plain rows), matched and graded.

{"doc_id": 7, "doc": {"question": "What is 17 + 25?"}, "target": "42", "resps": [["It is 42."]]}
"""
