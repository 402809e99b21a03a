import { addGroups, failure, outsider } from "../groups.mjs";

/** The members' roles, by group and time. */
export function roles({ groups, members, times }) {
  const node = outsider();
  addGroups(node, groups);
  try {
    return groups.flatMap(({ id }) => {
      const group = node.expectCoValueLoaded(id).getCurrentContent();
      return times.map((at) => {
        const then = at === null ? group : group.atTime(at);
        return members.map((member) => then.roleOfInternal(member) ?? null);
      });
    });
  } catch (error) {
    throw failure(error);
  }
}
