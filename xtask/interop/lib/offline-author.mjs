// Real content from a client without a connection, as the messages that it would send.

import { LocalNode } from "cojson";

import { crypto } from "./client.mjs";
import { secretSeed } from "./seeded.mjs";

export class OfflineAuthor {
  /** An account with a group that everyone may read and a map with one trusting edit. */
  constructor(name) {
    this.account = LocalNode.internalCreateAccount({
      crypto,
      initialAgentSecret: crypto.agentSecretFromSecretSeed(secretSeed(name)),
    });
    this.node = this.account.core.node;
    this.group = this.node.createGroup();
    this.group.addMember("everyone", "reader");
    this.map = this.group.createMap();
    this.map.set("key", "value", "trusting");
  }

  /** All content of a CoValue as one message that may be changed at will. */
  contentOf(coValue) {
    const pieces = this.node.expectCoValueLoaded(coValue.id).newContentSince();
    if (pieces.length !== 1) throw new Error(`${coValue.id} does not fit in one message`);
    return structuredClone(pieces[0]);
  }

  /** The content that a peer needs before it can take the map. */
  get dependencies() {
    return [this.contentOf(this.account), this.contentOf(this.group)];
  }
}
