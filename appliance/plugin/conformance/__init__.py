# SPDX-License-Identifier: Apache-2.0
"""The conformance kit: runs any provider through the contract of its kind.

From a shell: `trunkline plugins check`. From pytest: subclass the class of your kind. See docs/plugins.
"""

from appliance.plugin.conformance.classes import (
    EmbedderConformance,
    GuardrailConformance,
    LanguageModelConformance,
    RecordingStoreConformance,
    SpeechToTextConformance,
    TextToSpeechConformance,
    ToolConformance,
    TransportConformance,
    TurnDetectorConformance,
    VoiceActivityConformance,
)
from appliance.plugin.conformance.findings import Check, Finding, Outcome
from appliance.plugin.conformance.kit import check_offer, check_plugin, checks_for
from appliance.plugin.conformance.subject import Materials, Subject, packs_resolver

__all__ = [
    "Check",
    "EmbedderConformance",
    "Finding",
    "GuardrailConformance",
    "LanguageModelConformance",
    "Materials",
    "Outcome",
    "RecordingStoreConformance",
    "SpeechToTextConformance",
    "Subject",
    "TextToSpeechConformance",
    "ToolConformance",
    "TransportConformance",
    "TurnDetectorConformance",
    "VoiceActivityConformance",
    "check_offer",
    "check_plugin",
    "checks_for",
    "packs_resolver",
]
