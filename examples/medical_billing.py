"""The demo: ten medical billing records like three given ones.

Run it with `python examples/medical_billing.py`, or its schema alone with
`synthgen-local generate examples/medical_billing.py:MedicalBilling -n 10`.
"""

from pydantic import BaseModel


class MedicalBilling(BaseModel):
    """One line of a bill."""

    patient_id: int
    patient_name: str
    diagnosis_code: str
    procedure_code: str
    total_charge: float
    insurance_claim_amount: float


EXAMPLES = [
    {
        "example": "Patient ID: 123456, Patient Name: John Doe, Diagnosis Code: J20.9, "
        "Procedure Code: 99203, Total Charge: $500, Insurance Claim Amount: $350"
    },
    {
        "example": "Patient ID: 789012, Patient Name: Johnson Smith, Diagnosis Code: M54.5, "
        "Procedure Code: 99213, Total Charge: $150, Insurance Claim Amount: $120"
    },
    {
        "example": "Patient ID: 345678, Patient Name: Emily Stone, Diagnosis Code: E11.9, "
        "Procedure Code: 99214, Total Charge: $300, Insurance Claim Amount: $250"
    },
]

if __name__ == "__main__":
    from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator

    with LocalModel.load("smollm2-135m-instruct") as model:
        generator = TabularGenerator(MedicalBilling, model, prompt=FewShotPrompt(examples=EXAMPLES))
        for row in generator.stream(
            subject="medical_billing", extra="the name must be chosen at random", rows=10, seed=0
        ):
            print(row.model_dump_json())
