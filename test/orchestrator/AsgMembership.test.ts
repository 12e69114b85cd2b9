import { LifecycleState } from "@aws-sdk/client-auto-scaling"
import { assert, describe, it } from "@effect/vitest"
import * as AsgMembership from "../../src/orchestrator/AsgMembership.ts"

const of = (lifecycle: string, health = "Healthy") => AsgMembership.of({ lifecycle, health })

describe("AsgMembership.of", () => {
  it("serves what is in service and healthy", () => {
    assert.equal(of("InService"), "served")
    assert.equal(of("InService", "HEALTHY"), "served")
  })

  it.each([
    ["InService", "Unhealthy"],
    ["Terminating", "Healthy"],
    ["Terminating:Wait", "Healthy"],
    ["Terminating:Proceed", "Unhealthy"],
    ["Terminating:Retained", "Healthy"],
    ["Standby", "Healthy"],
    ["EnteringStandby", "Healthy"],
    ["Detaching", "Healthy"],
    ["ReplacingRootVolume:Wait", "Healthy"],
    ["Quarantined", "Healthy"],
    ["ToBeInventedByAws", "Healthy"]
  ])("lets %s with health %s leave", (lifecycle, health) => {
    assert.equal(of(lifecycle, health), "leaving")
  })

  it.each([
    "Pending",
    "Pending:Wait",
    "Pending:Proceed",
    "Warmed:Running",
    "Warmed:Pending:Wait",
    "Detached",
    "Terminated"
  ])("ignores %s", (lifecycle) => {
    assert.equal(of(lifecycle), "ignored")
  })

  it("serves no state that the API of today has but one", () => {
    const served = Object.values(LifecycleState).filter((lifecycle) => of(lifecycle) === "served")

    assert.deepEqual(served, ["InService"])
  })

  it("says why, to follow the name", () => {
    const member = { id: "i-1", zone: "eu-central-1a", lifecycle: "InService", health: "Unhealthy" }

    assert.equal(AsgMembership.reasonOf(member), "is Unhealthy")
    assert.equal(AsgMembership.reasonOf({ ...member, lifecycle: "Terminating:Wait" }), "is in Terminating:Wait")
    assert.equal(AsgMembership.reasonOf({ ...member, lifecycle: "Odd\n\u202eState" }), "is in Odd State")
    assert.equal(AsgMembership.originOf({ name: "web-blue" }, member), "i-1 in web-blue (eu-central-1a)")
  })
})
